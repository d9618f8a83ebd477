//! What a step of retention has done.

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The chunk is held back.
    Held,
    /// Some of its objects are found. The next step goes on.
    Proving,
    /// The chunk is dropped.
    Dropped,
    /// Another session is at work.
    Busy,
    /// No further chunk is due.
    Done,
}

impl Outcome {
    /// Returns its name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Held => "held",
            Outcome::Proving => "proving",
            Outcome::Dropped => "dropped",
            Outcome::Busy => "busy",
            Outcome::Done => "done",
        }
    }
}
