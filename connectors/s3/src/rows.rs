//! JSON objects become rows of the columns of a schema.

use std::ops::Range;

use aqueduct_api::TopicPartition;
use serde::de::DeserializeSeed as _;

use crate::columns::{Column, Struct};
use crate::fill::Root;
use crate::infer::Inferred;
use crate::learn::Lesson;
use crate::row::{RecordColumns, Row};
use crate::schema::Field;

/// So many rows are added before it is looked how much room all of them take.
const WEIGHED: usize = 16;

/// Some rows, by columns.
pub(crate) struct Rows {
    /// The fields of values.
    root: Struct,
    /// What else of the records is asked for.
    extra: Struct,
    asked: RecordColumns,
    partition: TopicPartition,
    rows: usize,
    /// How long their values were as JSON, or what their columns take where that is more: fields that are absent, keys
    /// and headers take room too.
    weight: usize,
}

impl Rows {
    /// No rows yet of a topic's partition; `fields` are those of values, and `extra` is asked for beside them.
    pub(crate) fn new(fields: &[Field], extra: &RecordColumns, partition: &TopicPartition) -> Self {
        let (root, asked) = (Struct::new(fields), extra.clone());
        Rows { root, extra: Struct::new(&asked.fields()), asked, partition: partition.clone(), rows: 0, weight: 0 }
    }

    /// No rows yet, of nothing but values.
    pub(crate) fn of_values(fields: &[Field]) -> Self {
        Rows::new(fields, &RecordColumns::default(), &TopicPartition::new("", 0))
    }

    /// No rows of the same columns.
    pub(crate) fn another(&self) -> Self {
        Rows::new(&self.root.fields, &self.asked, &self.partition)
    }

    /// Adds a row, or leaves all as it was and says why `row` is none.
    pub(crate) fn add(&mut self, row: &Row<'_>) -> Result<(), String> {
        self.push(row.value)?;
        self.finish(row)
    }

    /// Adds a row whose types are taken in beside it. Where that is not possible all is as it was, but part of the value may have been
    /// taken in.
    pub(crate) fn add_learning(
        &mut self,
        row: &Row<'_>,
        inferred: &mut Inferred,
        taken: &[&str],
    ) -> Result<(), String> {
        self.push_with(row.value, Some(inferred.lesson(taken)))?;
        self.finish(row)
    }

    /// Adds the value of a row, or leaves all as it was and says why `value` makes none.
    pub(crate) fn push(&mut self, value: &str) -> Result<(), String> {
        self.push_with(value, None)
    }

    fn push_with(&mut self, value: &str, lesson: Option<Lesson<'_>>) -> Result<(), String> {
        let mut deserializer = serde_json::Deserializer::from_str(value);
        let mut path = Vec::new();
        let place = Root { fields: &mut self.root, rows: self.rows, path: &mut path, lesson };
        let added = place.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        if let Err(cause) = added {
            self.truncate();
            if path.is_empty() {
                return Err(format!("the value makes no row: {cause}"));
            }
            path.reverse();
            return Err(format!("field {} does not fit the schema: {cause}", path.join(".")));
        }
        self.rows += 1;
        self.weight += value.len();
        Ok(())
    }

    /// Adds what else is asked for of the row whose value was pushed last.
    fn finish(&mut self, row: &Row<'_>) -> Result<(), String> {
        let pushed = self.push_extra(row);
        if self.rows.is_multiple_of(WEIGHED) {
            self.weight = self.weight.max(self.size());
        }
        if pushed.is_err() {
            self.rows -= 1;
            self.truncate();
        }
        pushed
    }

    fn push_extra(&mut self, row: &Row<'_>) -> Result<(), String> {
        let mut columns = self.extra.columns.iter_mut();
        let mut add = |asked: &Option<String>, push: &dyn Fn(&mut Column) -> Result<(), String>| {
            let column = asked.as_ref().and_then(|_| columns.next());
            column.map_or(Ok(()), push)
        };
        let (asked, partition) = (&self.asked, &self.partition);
        add(&asked.topic, &|column| column.push_text(Some(&partition.topic)))?;
        add(&asked.partition, &|column| column.push_number(Some(i64::from(partition.partition))))?;
        add(&asked.offset, &|column| column.push_number(Some(row.offset)))?;
        let time = (row.timestamp != -1).then(|| row.timestamp.checked_mul(1000)).flatten();
        add(&asked.timestamp, &|column| column.push_number(time))?;
        add(&asked.key, &|column| column.push_text(row.key))?;
        add(&asked.headers, &|column| column.push_headers(&row.headers))
    }

    /// Forgets what was added of a row that is none.
    fn truncate(&mut self) {
        self.root.truncate(self.rows);
        self.extra.truncate(self.rows);
    }

    /// Adds some rows of the same columns.
    pub(crate) fn extend(&mut self, other: &Rows, rows: Range<usize>) -> Result<(), String> {
        self.root.extend(&other.root, rows.clone())?;
        self.extra.extend(&other.extra, rows.clone())?;
        self.rows += rows.len();
        Ok(())
    }

    /// Takes all rows out.
    pub(crate) fn clear(&mut self) {
        (self.rows, self.weight) = (0, 0);
        self.truncate();
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// How many bytes they take up.
    pub(crate) fn size(&self) -> usize {
        self.root.size() + self.extra.size()
    }

    /// How much has been added, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// The columns and what they are called: first those of values.
    pub(crate) fn columns(&self) -> Vec<(&Field, &Column)> {
        self.root.iter().chain(self.extra.iter()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::columns::Values;
    use crate::schema::Kind;

    fn column(kind: Kind, value: &str) -> Result<Values, String> {
        let mut rows = Rows::of_values(&[Field::optional("d", kind)]);
        rows.push(&format!("{{\"d\":{value}}}"))?;
        Ok(std::mem::replace(&mut rows.root.columns[0].values, Values::Boolean(Vec::new())))
    }

    proptest! {
        #[test]
        fn numbers_are_exact(number in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let found = column(Kind::Double, &format!("{number:?}"));
            prop_assert!(matches!(&found, Ok(Values::Double(found)) if found[0].to_bits() == number.to_bits()));
        }
    }

    #[test]
    fn rows_weigh_what_they_take_however_short_their_values_are() {
        let fields: Vec<_> = (0..2000).map(|name| Field::optional(format!("c{name}"), Kind::Int64)).collect();
        let mut rows = Rows::new(&fields, &RecordColumns::default(), &TopicPartition::new("t", 0));
        let row = Row { offset: 0, timestamp: 0, key: None, headers: Vec::new(), value: r#"{"c17":1}"# };
        while rows.weight() < 256 << 10 {
            rows.add(&row).unwrap();
        }
        assert!(rows.size() < 1 << 20, "{} bytes in {} rows", rows.size(), rows.len());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!(7)),
            Just(json!(u64::MAX)),
            Just(json!(-1.5)),
            Just(json!("x")),
        ];
        scalar.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[xyz]", inner, 0..3).prop_map(|map| json!(map)),
            ]
        })
    }

    fn value() -> impl Strategy<Value = String> {
        let good = proptest::collection::btree_map("[abct]", json_value(), 0..4).prop_map(|map| json!(map).to_string());
        let odd = [
            r#"{"a":-0,"b":1e2}"#,
            r#"{"a":1,"a":"x"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"b":[1,2"#,
            r#"{"c":1e999}"#,
            "7",
            r#"{"a":{"x":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}"#,
        ];
        prop_oneof![8 => good, 1 => proptest::sample::select(odd.to_vec()).prop_map(str::to_owned)]
    }

    fn row(value: &str) -> Row<'_> {
        Row { offset: 0, timestamp: 0, key: None, headers: Vec::new(), value }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// Whatever was guessed: what is learned beside making rows is what is learned alone, and the rows are those that are made
        /// without learning.
        #[test]
        fn learning_beside_makes_no_difference(
            guess in proptest::collection::vec(value(), 1..4),
            values in proptest::collection::vec(value(), 1..12),
        ) {
            let mut guessed = Inferred::default();
            guess.iter().for_each(|value| drop(guessed.add(value, &["t"])));
            let fields = guessed.fields();
            let (mut beside, mut alone) = (Inferred::default(), Inferred::default());
            let (mut learning, mut plain) = (Rows::of_values(&fields), Rows::of_values(&fields));
            for value in guess.iter().chain(&values) {
                let added = learning.add_learning(&row(value), &mut beside, &["t"]);
                let told = if added.is_err() { beside.add(value, &["t"]) } else { Ok(()) };
                prop_assert_eq!(told, alone.add(value, &["t"]), "{}", value);
                prop_assert_eq!((beside.fields(), beside.count()), (alone.fields(), alone.count()), "{}", value);
                if added.is_ok() {
                    prop_assert_eq!(plain.push(value), Ok(()));
                }
                prop_assert_eq!(format!("{:?}", learning.columns()), format!("{:?}", plain.columns()));
            }
        }

        /// Rows that are brought in piece by piece are those that were made in place, though some values made none.
        #[test]
        fn rows_are_the_same_however_they_are_brought_in(
            values in proptest::collection::vec(value(), 1..20),
            cuts in proptest::collection::vec(0..5_usize, 1..20),
        ) {
            let mut inferred = Inferred::default();
            values.iter().step_by(2).for_each(|value| drop(inferred.add(value, &[])));
            let fields = inferred.fields();
            let (mut whole, mut pieces) = (Rows::of_values(&fields), Rows::of_values(&fields));
            let mut piece = pieces.another();
            for (value, cut) in values.iter().zip(cuts.iter().cycle()) {
                prop_assert_eq!(whole.push(value), piece.push(value));
                if *cut == 0 {
                    let half = piece.len() / 2;
                    pieces.extend(&piece, 0..half).unwrap();
                    pieces.extend(&piece, half..piece.len()).unwrap();
                    piece.clear();
                }
            }
            pieces.extend(&piece, 0..piece.len()).unwrap();
            prop_assert_eq!(format!("{:?}", whole.columns()), format!("{:?}", pieces.columns()));
            prop_assert_eq!((whole.len(), whole.size()), (pieces.len(), pieces.size()));
        }
    }

    #[test]
    fn what_is_no_number_is_told() {
        for (value, part) in [
            ("\"1\"", "invalid type: string \"1\", expected double"),
            ("true", "boolean `true`"),
            ("[1]", "sequence"),
            ("{}", "map"),
            ("1e999", "1e999 is out of range"),
        ] {
            let told = column(Kind::Double, value).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
        assert!(column(Kind::Float, "1e300").unwrap_err().contains("out of range"));
        assert!(matches!(column(Kind::Float, "7"), Ok(Values::Float(found)) if found == [7.0]));
    }
}
