//! `filter`: the records for which a condition is true.

use aqueduct_api::{
    Draft, Problem, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed, Unfit,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::prelude::Value;

use crate::program::{Program, Purpose, Stopped};
use crate::vrl::compiled;

/// A condition in the Vector Remap Language (<https://vrl.dev>): records for which it is true go on, the others are left
/// out. It sees what a `vrl` program sees, the value in `.message` also behind a program that made JSON of it, and changes
/// nothing; a record that it fails on is a dead letter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Filter(String);

impl Settings for Filter {
    const NAME: &'static str = "filter";
    const SUMMARY: &'static str = "keeps the records for which a condition is true";

    fn problems(&self) -> Vec<Problem> {
        Program::compile(&self.0, Purpose::Condition).err().unwrap_or_default()
    }
}

impl TransformSettings for Filter {
    fn open(self, _: TransformOpening) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Filtered { condition: compiled(&self.0, Purpose::Condition)? }))
    }
}

/// The transform.
struct Filtered {
    condition: Program,
}

#[async_trait]
impl Transform for Filtered {
    async fn apply<'a>(&self, mut drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let mut unfit = Vec::new();
        drafts.retain(|draft| match self.condition.run(draft) {
            Ok((kept, _)) => kept == Value::Boolean(true),
            Err(Stopped::Aborted) => false,
            Err(Stopped::Failed(reason)) => {
                unfit.push(Unfit { offset: draft.offset, reason, for_now: false });
                false
            }
        });
        Ok(Transformed { drafts, unfit })
    }
}
