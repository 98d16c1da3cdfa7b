//! What happens while the machine is on: what people ask for, what programs do to files, what befalls disk and store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aqueduct_api::{Log as _, TopicPartition};
use aqueduct_commit_log::CommitLog;
use tokio::time::{Instant, sleep, timeout};

use super::{Alive, PATIENCE, Run, Spell};
use crate::disk::DiskFaults;
use crate::oracle::{DIRECT, LINES, SOURCE};
use crate::pipeline;
use crate::scenario::{Action, End, LifeShape};
use crate::store::StoreFaults;
use crate::world::LineId;

impl Run {
    /// People and programs do things until the time is up.
    pub(super) async fn bustle(&mut self, alive: &mut Alive, shape: &LifeShape) {
        let end = Instant::now() + Duration::from_millis(shape.lasts);
        while Instant::now() < end {
            sleep(Duration::from_millis(self.dice.between(1, shape.pace * 2))).await;
            self.end_spells(alive, Instant::now()).await;
            let action = shape.actions.pick(&mut self.dice);
            // Whoever asks for something does not wait for ever.
            let _ = timeout(Duration::from_secs(10), self.act(alive, action)).await;
        }
        if shape.end == End::Clean {
            self.end_spells(alive, Instant::now() + PATIENCE).await;
        }
    }

    async fn act(&mut self, alive: &mut Alive, action: Action) {
        let sink = self.dice.below(self.sinks.len() as u64) as usize;
        match action {
            Action::Write | Action::Rotate => self.happens(action),
            Action::Truncate | Action::Remove => {
                // Who throws a file away has to know that its lines are safe, not only that they can be read.
                if let Ok(Some(safe)) = self.safe_lines(&alive.log).await {
                    self.throws_away(action, &safe);
                }
            }
            Action::Produce => {
                let mut produced = self.produced.lock().unwrap();
                produced.acknowledged.push(false);
                // The producer ends with its life.
                let _ = alive.produce.send(produced.acknowledged.len() as u64 - 1);
            }
            Action::Restart => {
                let name = self.some_connector();
                let done = alive.engine.restart(&name).await;
                self.told(format!("restart {name}"), done);
            }
            Action::Pause => {
                let name = self.some_connector();
                let done = alive.engine.pause(&name).await;
                self.told(format!("pause {name}"), done);
                self.spell(alive, Spell::Paused(name));
            }
            Action::Reload => {
                let mut dice = self.dice.clone();
                self.sinks[sink].change(&mut dice);
                self.dice = dice;
                self.reload(alive).await;
            }
            Action::Grow => {
                self.partitions = (self.partitions + 1).min(4);
                self.reload(alive).await;
            }
            Action::Clean => {
                let done = alive.log.clean().await;
                self.told("clean".into(), done);
            }
            Action::Fill => {
                self.disk.leave_room(Some(self.dice.below(3000)));
                self.spell(alive, Spell::Full);
            }
            Action::ReadOnly => {
                self.disk.set_faults(DiskFaults { read_only: true, ..alive.shape.disk });
                self.spell(alive, Spell::ReadOnly);
            }
            Action::Silence => {
                self.bucket.set_faults(StoreFaults { silent: true, ..alive.shape.store });
                self.spell(alive, Spell::Silence);
            }
            Action::Refuse => {
                self.bucket.set_faults(StoreFaults { refused: 1000, ..alive.shape.store });
                self.spell(alive, Spell::Refusal);
            }
            Action::Unpin => {
                let name = self.sinks[sink].name.clone();
                let before = self.given_up.len();
                if self.may_be_given_up(alive, &name).await.is_ok() {
                    let done = alive.engine.unpin(&name).await;
                    self.told(format!("unpin {name}"), done);
                    for (_, (topic, partition), offsets) in &mut self.given_up[before..] {
                        if let Ok(bounds) = alive.log.bounds(&TopicPartition::new(&**topic, *partition)).await {
                            offsets.end = bounds.end;
                        }
                    }
                }
            }
            Action::Jump => {
                let hours = self.dice.between(0, 4) as i64 - 2;
                self.event(format!("the clock jumps by {hours} hours"));
                self.time.jump(hours * 3_600_000);
            }
        }
    }

    /// Notes what a sink may have pinned, or may pin before it rests: from where it stands on.
    async fn may_be_given_up(&mut self, alive: &Alive, sink: &str) -> Result<(), aqueduct_api::Error> {
        let committed = aqueduct_api::Groups::committed(&alive.log, &format!("connect-{sink}")).await?;
        for (topic, partitions) in [(LINES, self.partitions), (DIRECT, 2)] {
            for number in 0..partitions {
                let start = committed.get(&TopicPartition::new(topic, number)).map_or(0, |committed| committed.offset);
                self.given_up.push((sink.to_owned(), (topic.to_owned(), number), start..i64::MAX));
            }
        }
        Ok(())
    }

    async fn reload(&mut self, alive: &Alive) {
        let plan = pipeline::plan(&self.scenario, self.partitions, &self.sinks);
        let done = alive.engine.reload(plan).await;
        self.told("reload".into(), done);
    }

    fn some_connector(&mut self) -> String {
        match self.dice.below(self.sinks.len() as u64 + 1) {
            0 => SOURCE.to_owned(),
            sink => self.sinks[sink as usize - 1].name.clone(),
        }
    }

    fn spell(&mut self, alive: &mut Alive, spell: Spell) {
        let lasts = match spell {
            Spell::Refusal => 20_000,
            _ => self.dice.between(100, 8_000),
        };
        alive.spells.push((Instant::now() + Duration::from_millis(lasts), spell));
    }

    async fn end_spells(&mut self, alive: &mut Alive, until: Instant) {
        let (over, rest) = std::mem::take(&mut alive.spells).into_iter().partition(|(end, _)| *end <= until);
        alive.spells = rest;
        let over: Vec<(Instant, Spell)> = over;
        for (_, spell) in over {
            match spell {
                Spell::Full => self.disk.leave_room(None),
                Spell::ReadOnly => {
                    self.check_budget(alive).await;
                    self.disk.set_faults(alive.shape.disk);
                }
                Spell::Silence => self.bucket.set_faults(alive.shape.store),
                Spell::Refusal => self.bucket.set_faults(alive.shape.store),
                Spell::Paused(name) => {
                    let done = timeout(Duration::from_secs(10), alive.engine.resume(&name)).await;
                    self.event(format!("resume {name}: {done:?}"));
                }
            }
        }
    }

    /// While the disk takes nothing, sources wait to append; waiting, they must not keep shared bytes.
    async fn check_budget(&mut self, alive: &Alive) {
        let mut kept = 0;
        for _ in 0..40 {
            sleep(Duration::from_millis(250)).await;
            kept += u64::from(alive.engine.status().await.budget.taken > 0);
        }
        if kept > 35 {
            self.trace.violated("shared bytes of the budget are kept while a source waits to try again");
        }
    }

    /// What the application does.
    fn happens(&mut self, action: Action) {
        let file = self.dice.below(self.world.files() as u64) as usize;
        match action {
            Action::Rotate => self.world.rotate(file),
            _ => self.world.write(file),
        }
    }

    /// Lines that are in the log for good: synced, seen again after that, and nothing was given back meanwhile.
    async fn safe_lines(&self, log: &CommitLog) -> Result<Option<BTreeSet<LineId>>, aqueduct_api::Error> {
        let mut synced = BTreeMap::new();
        for number in 0..self.partitions {
            let partition = TopicPartition::new(LINES, number);
            let safe = log.sync(&partition).await?;
            synced.insert(number, (safe, log.bounds(&partition).await?.given_back));
        }
        sleep(Duration::from_millis(400)).await;
        let is_safe = |(topic, partition, offset): &(String, i32, i64)| {
            topic != LINES || synced.get(partition).is_some_and(|(safe, _)| offset < safe)
        };
        let seen = {
            let memory = self.memory.lock().unwrap();
            let lines = memory.lines.iter().filter(|(_, places)| places.iter().any(is_safe));
            lines.map(|(line, _)| *line).collect()
        };
        for (number, (_, given_back)) in synced {
            if log.bounds(&TopicPartition::new(LINES, number)).await?.given_back != given_back {
                return Ok(None);
            }
        }
        Ok(Some(seen))
    }

    /// What the application does with a file of which all lines are safe.
    fn throws_away(&mut self, action: Action, safe: &BTreeSet<LineId>) {
        let file = self.dice.below(self.world.files() as u64) as usize;
        match action {
            Action::Truncate => self.world.truncate(file, |line| safe.contains(&line)),
            _ => self.world.remove_oldest(file, |line| safe.contains(&line)),
        }
    }

    /// What the application does while the machine that reads its files is off.
    pub(super) fn happens_outside(&mut self) {
        let action = *self.dice.pick(&[Action::Write, Action::Write, Action::Rotate]);
        self.happens(action);
    }
}
