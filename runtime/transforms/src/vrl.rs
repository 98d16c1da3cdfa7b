//! `vrl`: records by a program in the Vector Remap Language.

use aqueduct_api::{
    Draft, Error, Problem, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed, Unfit,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::program::{Program, Purpose, Stopped};
use crate::settle::settle;

/// A program in the Vector Remap Language (<https://vrl.dev>). It finds the value in `.message`, and in `%` what else there
/// is: `%topic`, `%partition`, `%offset`, `%timestamp`, `%key`, `%headers`. What it leaves in `.` is the new value: text as it
/// is, null a tombstone, a list a record each, everything else JSON. `%key`, `%headers`, `%timestamp` and, on the way from
/// a source, `%topic` may be assigned. `abort` leaves the record out; a record that it fails on is a dead letter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Vrl(String);

impl Settings for Vrl {
    const NAME: &'static str = "vrl";
    const SUMMARY: &'static str = "makes records of a record with a program";

    fn problems(&self) -> Vec<Problem> {
        Program::compile(&self.0, Purpose::Change).err().unwrap_or_default()
    }
}

impl TransformSettings for Vrl {
    fn open(self, _: TransformOpening) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Programmed { program: compiled(&self.0, Purpose::Change)? }))
    }
}

/// The program of settings in which nothing wrong was found.
pub(crate) fn compiled(source: &str, purpose: Purpose) -> Result<Program> {
    Program::compile(source, purpose).map_err(|problems| {
        let told: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        Error::fatal(told.join("; "))
    })
}

/// The transform.
struct Programmed {
    program: Program,
}

#[async_trait]
impl Transform for Programmed {
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let mut done = Transformed { drafts: Vec::with_capacity(drafts.len()), unfit: Vec::new() };
        for draft in drafts {
            let offset = draft.offset;
            let settled = match self.program.run(&draft) {
                Ok((_, left)) => settle(draft, left, &mut done.drafts),
                Err(Stopped::Aborted) => Ok(()),
                Err(Stopped::Failed(reason)) => Err(reason),
            };
            if let Err(reason) = settled {
                done.unfit.push(Unfit { offset, reason, for_now: false });
            }
        }
        Ok(done)
    }
}
