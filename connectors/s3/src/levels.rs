//! Columns as Parquet has them: of each leaf the values that are there, and two levels that say where in rows they are.

use std::ops::Range;

use crate::columns::{Bytes, Column, Ends, Values};
use crate::schema::{Field, Kind};

/// A leaf, and the way to it.
pub(crate) struct Leaf<'a> {
    steps: Vec<Step<'a>>,
    pub(crate) values: LeafValues<'a>,
}

/// The values of a leaf.
#[derive(Clone, Copy)]
pub(crate) enum LeafValues<'a> {
    /// Of a column.
    Column(&'a Values),
    /// The names in a map.
    Names(&'a Bytes),
}

/// What lies between a row and a leaf.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// What may be null.
    Optional(&'a [bool]),
    /// Any number of what follows; the level of its repetition.
    Repeated(&'a Ends, i16),
}

/// Where the values of some rows are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    /// How much of the way is there; empty where it always is.
    pub(crate) definition: Vec<i16>,
    /// At which level it repeats; empty where nothing does.
    pub(crate) repetition: Vec<i16>,
    /// Which values are there.
    pub(crate) present: Vec<usize>,
}

/// The leaves of a column, in the order of Parquet's columns.
pub(crate) fn leaves<'a>(field: &'a Field, column: &'a Column) -> Vec<Leaf<'a>> {
    let mut leaves = Vec::new();
    descend(&field.kind, column, field.required, &mut Vec::new(), &mut leaves);
    leaves
}

fn descend<'a>(
    kind: &'a Kind,
    column: &'a Column,
    required: bool,
    steps: &mut Vec<Step<'a>>,
    leaves: &mut Vec<Leaf<'a>>,
) {
    let depth = steps.len();
    if !required {
        steps.push(Step::Optional(&column.valid));
    }
    let repeats = 1 + steps.iter().filter(|step| matches!(step, Step::Repeated(..))).count() as i16;
    match (&column.values, kind) {
        (Values::List(inner, ends), Kind::List(kind)) => {
            steps.push(Step::Repeated(ends, repeats));
            descend(kind, inner, false, steps, leaves);
        }
        (Values::Map(names, inner, ends), Kind::Map(kind)) => {
            steps.push(Step::Repeated(ends, repeats));
            leaves.push(Leaf { steps: steps.clone(), values: LeafValues::Names(names) });
            descend(kind, inner, false, steps, leaves);
        }
        (Values::Struct(inner), _) => {
            for (field, column) in inner.iter() {
                descend(&field.kind, column, field.required, steps, leaves);
            }
        }
        (values, _) => leaves.push(Leaf { steps: steps.clone(), values: LeafValues::Column(values) }),
    }
    steps.truncate(depth);
}

/// A value, or the place of one that is missing.
#[derive(Clone, Copy)]
struct Slot {
    repetition: i16,
    definition: i16,
    at: Option<usize>,
}

impl Leaf<'_> {
    /// The levels of some rows.
    pub(crate) fn levels(&self, rows: Range<usize>) -> Levels {
        let mut levels = Levels::default();
        match self.steps[..] {
            [] => levels.present = rows.collect(),
            [Step::Optional(valid)] => {
                levels.definition = valid[rows.clone()].iter().map(|valid| i16::from(*valid)).collect();
                levels.present = rows.filter(|row| valid[*row]).collect();
            }
            _ => {
                let slots = rows.map(|row| Slot { repetition: 0, definition: 0, at: Some(row) }).collect();
                let slots = self.steps.iter().fold(slots, walk);
                levels.definition = slots.iter().map(|slot| slot.definition).collect();
                levels.present = slots.iter().filter_map(|slot| slot.at).collect();
                if self.steps.iter().any(|step| matches!(step, Step::Repeated(..))) {
                    levels.repetition = slots.iter().map(|slot| slot.repetition).collect();
                }
            }
        }
        levels
    }
}

fn walk(mut slots: Vec<Slot>, step: &Step<'_>) -> Vec<Slot> {
    match *step {
        Step::Optional(valid) => {
            for slot in &mut slots {
                slot.at = slot.at.filter(|at| valid[*at]);
                slot.definition += i16::from(slot.at.is_some());
            }
            slots
        }
        Step::Repeated(ends, level) => {
            let mut walked = Vec::with_capacity(slots.len());
            for slot in slots {
                let items = slot.at.map_or(0..0, |at| ends.range(at));
                if items.is_empty() {
                    walked.push(Slot { at: None, ..slot });
                    continue;
                }
                let first = items.start;
                walked.extend(items.map(|item| Slot {
                    repetition: if item == first { slot.repetition } else { level },
                    definition: slot.definition + 1,
                    at: Some(item),
                }));
            }
            walked
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Rows;

    /// The levels of the only leaf of `kind`, as `repetition/definition` each, and which values are there.
    fn check(kind: serde_json::Value, rows: &[&str], levels: &[&str], present: &[usize]) {
        let fields: Vec<Field> = serde_json::from_value(json!([{"name": "a", "type": kind}])).unwrap();
        let mut columns = Rows::of_values(&fields);
        rows.iter().for_each(|row| columns.push(row).unwrap());
        let columns = columns.columns();
        let leaves = leaves(columns[0].0, columns[0].1);
        let found = leaves.last().unwrap().levels(0..rows.len());
        let repetition = |at: usize| found.repetition.get(at).copied().unwrap_or(0);
        let shown = found.definition.iter().enumerate().map(|(at, level)| format!("{}/{level}", repetition(at)));
        assert_eq!(shown.collect::<Vec<_>>(), levels);
        assert_eq!(found.present, present);
    }

    #[test]
    fn levels_are_those_of_the_paper() {
        check(json!("int32"), &[r#"{"a":1}"#, "{}", r#"{"a":2}"#], &["0/1", "0/0", "0/1"], &[0, 2]);
        let lists = [r#"{"a":[1,null]}"#, r#"{"a":[]}"#, "{}", r#"{"a":[3]}"#];
        check(json!({"list": "int32"}), &lists, &["0/3", "1/2", "0/1", "0/0", "0/3"], &[0, 2]);
        let nested = [r#"{"a":[[1,2],[]]}"#, r#"{"a":[null,[3]]}"#];
        let levels = ["0/5", "2/5", "1/3", "0/2", "1/5"];
        check(json!({"list": {"list": "int32"}}), &nested, &levels, &[0, 1, 2]);
        let structs = [r#"{"a":{"b":1}}"#, r#"{"a":{}}"#, r#"{"a":null}"#];
        let kind = json!({"struct": [{"name": "b", "type": "int32"}]});
        check(kind, &structs, &["0/2", "0/1", "0/0"], &[0]);
        let maps = [r#"{"a":{"x":1,"y":null}}"#, r#"{"a":{}}"#];
        check(json!({"map": "int32"}), &maps, &["0/3", "1/2", "0/1"], &[0]);
    }
}
