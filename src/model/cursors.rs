//! How far a prefix has been listed. Keys of one group sort by time; of each group, the newest time found is kept.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pattern::KeyPattern;

/// With more groups than this, no cursors are kept, and every listing covers the whole prefix.
const MOST: usize = 1_000;

/// For each group (the beginning that its keys share), its newest key up to and with the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursors {
    groups: BTreeMap<String, String>,
    too_many: bool,
}

impl Cursors {
    /// Reads what [`Cursors::to_json`] has written. Returns `None` for null or anything else.
    pub fn from_json(value: &Value) -> Option<Cursors> {
        let groups = value.as_object()?.iter();
        let groups = groups.map(|(group, moment)| Some((group.clone(), moment.as_str()?.to_owned())));
        Some(Cursors { groups: groups.collect::<Option<_>>()?, too_many: false })
    }

    /// Returns the value to store. It is null if there are too many groups.
    pub fn to_json(&self) -> Value {
        if self.too_many {
            return Value::Null;
        }
        self.groups.iter().map(|(group, moment)| (group.clone(), Value::from(moment.clone()))).collect()
    }

    /// Records a key that was found. `group` and `moment` are the key's beginnings as [`super::pattern::Place`] gives
    /// them.
    pub fn note(&mut self, group: &str, moment: &str) {
        if self.too_many {
            return;
        }
        if let Some(known) = self.groups.get_mut(group) {
            if known.as_str() < moment {
                moment.clone_into(known);
            }
        } else if self.groups.len() < MOST {
            self.groups.insert(group.to_owned(), moment.to_owned());
        } else {
            self.too_many = true;
            self.groups.clear();
        }
    }

    /// Returns the key to continue the listing at, if all keys from `key` up to it were listed before. Keys of the
    /// newest moment are listed again, because more of them may have been added.
    pub fn skip(&self, pattern: &KeyPattern, key: &str) -> Option<String> {
        let place = pattern.read(key)?.place?;
        self.groups.get(&key[..place.group]).filter(|moment| key < moment.as_str()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_continues_at_its_newest_moment_and_a_new_one_from_its_beginning() {
        let pattern: KeyPattern = "s3://abc/{asset}/{yyyy}/{mm}/{dd}/".parse().unwrap();
        let mut cursors = Cursors::default();
        for moment in ["BTC/2024/08/07", "BTC/2024/08/09", "BTC/2024/08/08"] {
            cursors.note("BTC/", moment);
        }
        assert_eq!(cursors.skip(&pattern, "BTC/2024/08/08/x").as_deref(), Some("BTC/2024/08/09"));
        for key in ["BTC/2024/08/09/a", "BTC/2024/08/10/a", "ETH/2024/01/01/a", "BTC/readme"] {
            assert_eq!(cursors.skip(&pattern, key), None, "{key}");
        }
        assert_eq!(Cursors::from_json(&cursors.to_json()), Some(cursors));
        assert_eq!(Cursors::from_json(&Value::Null), None);
    }

    #[test]
    fn too_many_groups_are_none() {
        let mut cursors = Cursors::default();
        for n in 0..MOST {
            cursors.note(&format!("{n}/"), &format!("{n}/2024"));
        }
        assert!(cursors.to_json().is_object());
        cursors.note("one more/", "one more/2024");
        cursors.note("0/", "0/2025");
        assert_eq!(cursors.to_json(), Value::Null);
    }
}
