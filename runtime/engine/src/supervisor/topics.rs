//! What a plan wants of topics: found out and looked through as a whole before any is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::{Error, Result, Topic};

use crate::host::Host;
use crate::{Plan, TopicPlan};

/// What is to be done so that topics are as a plan says.
pub(crate) struct Differences(Vec<Difference>);

enum Difference {
    Missing(String, TopicPlan),
    Other { name: String, wanted: TopicPlan, grows: bool },
}

/// What differs between a plan and the topics that are there.
///
/// # Errors
/// `Refused` where something is not possible.
pub(crate) async fn differences(host: &Host, plan: &Plan) -> Result<Differences> {
    let topics = host.store.topics().await?;
    let there: BTreeMap<&str, &Topic> = topics.iter().map(|topic| (&*topic.name, topic)).collect();
    let undeclared = plan.sources.values().map(|source| &source.topic).filter(|name| !plan.topics.contains_key(*name));
    let undeclared = undeclared.filter(|name| !there.contains_key(name.as_str()));
    let mut wanted: BTreeMap<String, TopicPlan> = undeclared.map(|name| (name.clone(), TopicPlan::default())).collect();
    wanted.extend(plan.topics.clone());
    let mut differences = Vec::new();
    for (name, mut wanted) in wanted {
        let Some(was) = there.get(name.as_str()) else {
            differences.push(Difference::Missing(name, wanted));
            continue;
        };
        // The mark is the runtime's: a declaration without it does not take it away.
        wanted.settings.dead_letters |= was.settings.dead_letters;
        if wanted.partitions < was.partitions {
            let (count, less) = (was.partitions, wanted.partitions);
            return Err(Error::refused(format!(
                "topics.{name}: it has {count} partitions and never shrinks to {less}"
            )));
        }
        if (was.partitions, &was.settings) != (wanted.partitions, &wanted.settings) {
            differences.push(Difference::Other { name, grows: wanted.partitions > was.partitions, wanted });
        }
    }
    Ok(Differences(differences))
}

impl Differences {
    /// Topics that are there and will be changed.
    pub(crate) fn altered(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().filter_map(|difference| match difference {
            Difference::Other { name, .. } => Some(name.clone()),
            Difference::Missing(..) => None,
        })
    }

    /// Makes and changes topics; `told` says what was done, also where the next one fails.
    pub(crate) async fn apply(self, host: &Arc<Host>, told: &mut Vec<String>) -> Result<()> {
        for difference in self.0 {
            let (name, what, grows, done) = match difference {
                Difference::Missing(name, wanted) => {
                    let done = host.store.create(&name, wanted.partitions, &wanted.settings).await;
                    (name, "made topic", false, done)
                }
                Difference::Other { name, wanted, grows } => {
                    let done = host.store.alter(&name, wanted.partitions, &wanted.settings).await;
                    (name, if grows { "gave more partitions to topic" } else { "changed topic" }, grows, done)
                }
            };
            let topic = done.map_err(|error| error.context(format!("topics.{name}")))?;
            told.push(format!("{what} {name}"));
            if grows {
                // At once: what comes before this is noted counts as earlier than what has moved to a new partition.
                host.note_growth(&topic).await.map_err(|error| error.context(format!("topics.{name}")))?;
            }
        }
        Ok(())
    }
}
