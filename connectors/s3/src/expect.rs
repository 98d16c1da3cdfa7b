//! Which columns the next object of a topic will have: a guess from those before it, which saves going through its records
//! twice. What an object holds never depends on the guess: it is made anew where the guess was wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::schema::Field;

/// How many alike are asked for at most before the next guess.
const MOST_ALIKE: u32 = 64;

/// What is expected of each topic.
#[derive(Default)]
pub(crate) struct Expectations(Mutex<BTreeMap<String, Expectation>>);

struct Expectation {
    fields: Vec<Field>,
    /// How many objects in a row had these fields.
    alike: u32,
    /// How many must have been alike before there is a guess: a wrong one costs more than it could have saved.
    needed: u32,
}

impl Expectations {
    /// Whether nothing is known of `topic`.
    pub(crate) fn is_new(&self, topic: &str) -> bool {
        !self.topics().contains_key(topic)
    }

    /// The fields that the next object of `topic` will have, if one may say.
    pub(crate) fn guess(&self, topic: &str) -> Option<Vec<Field>> {
        let topics = self.topics();
        let expectation = topics.get(topic)?;
        (expectation.alike >= expectation.needed).then(|| expectation.fields.clone())
    }

    /// Learns that an object of `topic` has these fields, and whether they had been guessed.
    pub(crate) fn learn(&self, topic: &str, fields: Vec<Field>, was_guessed: bool) {
        let mut topics = self.topics();
        match topics.get_mut(topic) {
            Some(known) if known.fields == fields => {
                known.alike = known.alike.saturating_add(1);
                if was_guessed {
                    known.needed = (known.needed / 2).max(1);
                }
            }
            Some(known) => (known.fields, known.alike) = (fields, 1),
            None => drop(topics.insert(topic.to_owned(), Expectation { fields, alike: 1, needed: 1 })),
        }
    }

    /// Learns that a guess was wrong.
    pub(crate) fn missed(&self, topic: &str) {
        let mut topics = self.topics();
        let nothing = || Expectation { fields: Vec::new(), alike: 0, needed: 1 };
        let known = topics.entry(topic.to_owned()).or_insert_with(nothing);
        known.alike = 0;
        known.needed = (known.needed * 2).min(MOST_ALIKE);
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<String, Expectation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    fn fields(name: &str) -> Vec<Field> {
        vec![Field::optional(name.to_owned(), Kind::Int64)]
    }

    #[test]
    fn what_came_last_is_guessed_and_a_wrong_guess_makes_careful() {
        let expectations = Expectations::default();
        assert!(expectations.is_new("t"));
        assert_eq!(expectations.guess("t"), None);
        expectations.learn("t", fields("a"), false);
        assert_eq!((expectations.guess("t"), expectations.guess("u")), (Some(fields("a")), None));
        expectations.missed("t");
        expectations.learn("t", fields("b"), false);
        assert_eq!(expectations.guess("t"), None, "one is not enough any more");
        expectations.learn("t", fields("b"), false);
        assert_eq!(expectations.guess("t"), Some(fields("b")));
        expectations.learn("t", fields("b"), true);
        expectations.learn("t", fields("a"), false);
        assert_eq!(expectations.guess("t"), Some(fields("a")), "one is enough again");
    }

    #[test]
    fn columns_that_come_and_go_are_seldom_guessed() {
        let expectations = Expectations::default();
        let mut missed = 0;
        for round in 0..1000 {
            let found = fields(["a", "b"][round % 2]);
            let guess = expectations.guess("t");
            if guess.as_ref().is_some_and(|guess| *guess != found) {
                missed += 1;
                expectations.missed("t");
            }
            expectations.learn("t", found.clone(), guess == Some(found));
        }
        assert_eq!(missed, 1);
    }

    #[test]
    fn a_topic_whose_first_guess_was_wrong_is_not_new_any_more() {
        let expectations = Expectations::default();
        expectations.missed("t");
        assert!(!expectations.is_new("t") && expectations.guess("t").is_none());
        expectations.learn("t", fields("a"), false);
        assert_eq!(expectations.guess("t"), None);
        expectations.learn("t", fields("a"), false);
        assert_eq!(expectations.guess("t"), Some(fields("a")));
    }
}
