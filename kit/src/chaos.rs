//! Faults that strike by chance, the same ones for the same seed and the same sequence of requests.

use std::time::Duration;

use crate::proxy::Fault;
use crate::ticks::Random;

/// What strikes, and how often.
#[derive(Debug, Clone)]
pub struct Chaos {
    random: Random,
    part: f64,
    faults: Vec<(&'static str, Fault)>,
}

impl Chaos {
    /// Strikes such a part of all requests by one of these faults, each as often as the others.
    pub fn new(seed: u64, part: f64, faults: Vec<(&'static str, Fault)>) -> Self {
        Self { random: Random(seed), part, faults }
    }

    /// Strikes as real networks and stores do: 503, a body that pauses, one that is cut, a reset.
    pub fn usual(seed: u64, part: f64) -> Self {
        let faults = vec![
            ("503", Fault::slow_down()),
            ("stall", Fault::PauseAfter(100, Duration::from_millis(400))),
            ("cut", Fault::CutAfter(300)),
            ("reset", Fault::Drop),
        ];
        Self::new(seed, part, faults)
    }

    /// Returns what happens to the next request.
    pub(crate) fn strike(&mut self, method: &str) -> Option<(&'static str, Fault)> {
        if self.random.fraction() > self.part {
            return None;
        }
        let fits = |fault: &Fault| method == "GET" || !fault.is_of_the_body();
        let fitting: Vec<_> = self.faults.iter().filter(|(_, fault)| fits(fault)).collect();
        let index = self.random.below(fitting.len().max(1) as u64) as usize;
        fitting.get(index).map(|fault| (*fault).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_requests_is_struck_and_no_question_by_what_strikes_bodies() {
        let mut chaos = Chaos::usual(1, 0.05);
        let struck: Vec<_> = (0..10_000).filter_map(|_| chaos.strike("GET")).map(|(name, _)| name).collect();
        assert!((400..600).contains(&struck.len()), "{}", struck.len());
        assert!(["503", "stall", "cut", "reset"].iter().all(|name| struck.contains(name)));
        let struck: Vec<_> = (0..10_000).filter_map(|_| chaos.strike("HEAD")).map(|(name, _)| name).collect();
        assert!(struck.iter().all(|name| ["503", "reset"].contains(name)), "{struck:?}");
    }
}
