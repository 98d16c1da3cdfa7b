//! `route`: by record, the topic that it goes to.

use std::borrow::Cow;

use aqueduct_api::{
    Draft, Problem, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed, Unfit,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::program::{Program, Purpose, Stopped};
use crate::vrl::compiled;

/// The longest name of a topic.
const LONGEST: usize = 249;

/// An expression in the Vector Remap Language (<https://vrl.dev>) that comes to the name of the topic that the record goes to,
/// made with defaults where it is not there. On the way from a source only: on the way to a sink a record stays of the
/// topic that it was read from. A name that can not be a topic's makes the record a dead letter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Route(String);

impl Settings for Route {
    const NAME: &'static str = "route";
    const SUMMARY: &'static str = "says by record which topic it goes to";

    fn problems(&self) -> Vec<Problem> {
        Program::compile(&self.0, Purpose::Topic).err().unwrap_or_default()
    }
}

impl TransformSettings for Route {
    fn open(self, _: TransformOpening) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Routed { topic: compiled(&self.0, Purpose::Topic)? }))
    }
}

/// The transform.
struct Routed {
    topic: Program,
}

#[async_trait]
impl Transform for Routed {
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let mut done = Transformed { drafts: Vec::with_capacity(drafts.len()), unfit: Vec::new() };
        for mut draft in drafts {
            let offset = draft.offset;
            let sent = match self.topic.run(&draft) {
                Ok((topic, _)) => match topic.to_str_lossy() {
                    Some(topic) => send(&mut draft, &topic),
                    None => Err("the topic is not text".to_owned()),
                },
                Err(Stopped::Aborted) => continue,
                Err(Stopped::Failed(reason)) => Err(reason),
            };
            match sent {
                Ok(()) => done.drafts.push(draft),
                Err(reason) => done.unfit.push(Unfit { offset, reason, for_now: false }),
            }
        }
        Ok(done)
    }
}

/// Sends a draft to a topic.
///
/// # Errors
/// Why it can not go there.
pub(crate) fn send(draft: &mut Draft<'_>, topic: &str) -> Result<(), String> {
    if draft.partition.is_some() {
        return Err("its topic can not be changed on the way to a sink".to_owned());
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let shown = || topic.chars().take(LONGEST).flat_map(char::escape_debug).collect::<String>();
    match topic {
        "" => return Err("the name of its topic is empty".to_owned()),
        "." | ".." => return Err(format!("`{topic}` is not a topic's name")),
        _ if topic.len() > LONGEST => {
            return Err(format!("the name of its topic is longer than {LONGEST}: `{}`", shown()));
        }
        _ if topic.starts_with("__") => {
            return Err(format!("`{}` begins with `__`, which is for internal topics", shown()));
        }
        _ if !topic.chars().all(known) => {
            return Err(format!(
                "`{}` is not a topic's name: only letters, digits, `.`, `_` and `-` may be in it",
                shown()
            ));
        }
        _ => draft.topic = Cow::Owned(topic.to_owned()),
    }
    Ok(())
}
