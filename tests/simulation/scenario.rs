//! What happens under a seed: how the pipeline is set up, what goes wrong in each life of the machine, and what people and
//! programs do meanwhile. A scenario can aim at one rule of delivery: it then makes what that rule is for happen often.

use aqueduct_api::Durability;
use aqueduct_api::fault::Mutant;

use crate::dice::Dice;
use crate::disk::DiskFaults;
use crate::store::StoreFaults;
use crate::threads::Unrest;
use crate::world::Habits;

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) files: u64,
    pub(crate) habits: Habits,
    pub(crate) topic: TopicShape,
    pub(crate) sinks: Vec<SinkShape>,
    /// All lives but the last, in which nothing goes wrong and everything drains.
    pub(crate) lives: Vec<LifeShape>,
    /// The bytes that all connectors share.
    pub(crate) budget: u64,
    /// Objects larger than this are uploaded in parts.
    pub(crate) part_size: u64,
}

/// How the topics are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicShape {
    pub(crate) partitions: i32,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) retention_bytes: Option<u64>,
}

/// A sink.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SinkShape {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) format: &'static str,
    pub(crate) layout: Layout,
    pub(crate) chunk_bytes: u64,
    pub(crate) chunk_records: Option<u64>,
    pub(crate) chunk_age: u64,
}

/// Where a sink writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The simulated object store.
    Store,
    /// A folder on the simulated disk.
    Folder,
}

/// How a sink names its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A template with topic and partition.
    Template,
    /// A template with the record's time: many objects a chunk.
    Dated,
    /// Confluent's.
    Confluent,
}

/// One life of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LifeShape {
    /// How long it lasts unless something ends it, milliseconds.
    pub(crate) lasts: u64,
    pub(crate) end: End,
    /// How long the machine is off afterwards, milliseconds.
    pub(crate) pause: u64,
    pub(crate) disk: DiskFaults,
    pub(crate) store: StoreFaults,
    pub(crate) unrest: Unrest,
    /// The average time between two actions, milliseconds.
    pub(crate) pace: u64,
    pub(crate) actions: Actions,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The daemon is stopped, and stops.
    Clean,
    /// The power fails when the time is up.
    Power,
    /// The process is killed when the time is up.
    Kill,
    /// The power fails, or the process is killed, at that operation of the disk.
    Operation(u64),
}

/// What is done, by weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actions {
    pub(crate) write: u64,
    pub(crate) rotate: u64,
    pub(crate) truncate: u64,
    pub(crate) remove: u64,
    pub(crate) produce: u64,
    pub(crate) restart: u64,
    pub(crate) pause: u64,
    pub(crate) reload: u64,
    pub(crate) grow: u64,
    pub(crate) clean: u64,
    pub(crate) fill: u64,
    pub(crate) read_only: u64,
    pub(crate) silence: u64,
    pub(crate) jump: u64,
    pub(crate) refuse: u64,
    pub(crate) unpin: u64,
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Write,
    Rotate,
    Truncate,
    Remove,
    Produce,
    Restart,
    Pause,
    Reload,
    Grow,
    Clean,
    Fill,
    ReadOnly,
    Silence,
    Jump,
    Refuse,
    Unpin,
}

impl Actions {
    const ALL: Actions = Actions {
        write: 50,
        rotate: 6,
        truncate: 4,
        remove: 3,
        produce: 12,
        restart: 4,
        pause: 2,
        reload: 4,
        grow: 1,
        clean: 4,
        fill: 1,
        read_only: 1,
        silence: 1,
        jump: 1,
        refuse: 1,
        unpin: 1,
    };

    /// One of them.
    pub(crate) fn pick(&self, dice: &mut Dice) -> Action {
        let weights = [
            (self.write, Action::Write),
            (self.rotate, Action::Rotate),
            (self.truncate, Action::Truncate),
            (self.remove, Action::Remove),
            (self.produce, Action::Produce),
            (self.restart, Action::Restart),
            (self.pause, Action::Pause),
            (self.reload, Action::Reload),
            (self.grow, Action::Grow),
            (self.clean, Action::Clean),
            (self.fill, Action::Fill),
            (self.read_only, Action::ReadOnly),
            (self.silence, Action::Silence),
            (self.jump, Action::Jump),
            (self.refuse, Action::Refuse),
            (self.unpin, Action::Unpin),
        ];
        let mut roll = dice.below(weights.iter().map(|(weight, _)| weight).sum());
        for (weight, action) in weights {
            if roll < weight {
                return action;
            }
            roll -= weight;
        }
        Action::Write
    }
}

impl Scenario {
    /// The scenario of a seed, aimed at the rule that `aim` breaks.
    pub(crate) fn new(seed: u64, aim: Option<Mutant>) -> Self {
        let mut dice = Dice::new(seed, "scenario");
        let lives = dice.between(1, 5);
        let sinks = dice.between(1, 2);
        let mut scenario = Scenario {
            seed,
            files: dice.between(1, 4),
            habits: Habits {
                burst: *dice.pick(&[2, 8, 20]),
                not_json: *dice.pick(&[0, 30, 150]),
                too_long: *dice.pick(&[0, 0, 20]),
                partial: *dice.pick(&[0, 200]),
            },
            topic: TopicShape {
                partitions: dice.between(1, 3) as i32,
                durability: *dice.pick(&[Durability::Fsync, Durability::Fsync, Durability::Interval, Durability::Os]),
                segment_bytes: *dice.pick(&[1 << 10, 4 << 10, 64 << 10]),
                retention_bytes: *dice.pick(&[None, Some(1), Some(8 << 10)]),
            },
            sinks: (0..sinks).map(|number| SinkShape::new(number, &mut dice)).collect(),
            lives: (0..lives).map(|_| LifeShape::new(&mut dice)).collect(),
            budget: *dice.pick(&[1 << 10, 64 << 10, 64 << 20]),
            part_size: *dice.pick(&[300, 2000, 8 << 20]),
        };
        if let Some(mutant) = aim {
            scenario.aim(mutant, &mut dice);
        }
        scenario
    }

    /// Makes what the rule is for happen often.
    fn aim(&mut self, mutant: Mutant, dice: &mut Dice) {
        while self.lives.len() < 3 {
            let life = LifeShape::new(dice);
            self.lives.push(life);
        }
        match mutant {
            Mutant::AcknowledgeBeforeSync | Mutant::SyncAgain => {
                self.topic.durability = Durability::Fsync;
                self.each_life(|life, dice| {
                    life.actions.produce = 60;
                    life.end = *dice.pick(&[End::Power, End::Operation(dice.clone().between(50, 1500))]);
                });
                if mutant == Mutant::SyncAgain {
                    self.each_life(|life, _| life.disk.sync = 60);
                }
            }
            Mutant::PositionAheadOfData => {
                self.topic.durability = *dice.pick(&[Durability::Fsync, Durability::Interval, Durability::Os]);
                self.each_life(|life, _| life.end = End::Power);
            }
            Mutant::WriteBeforePin => {
                self.sinks.iter_mut().for_each(|sink| sink.chunk_age = 100);
                self.each_life(|life, dice| life.end = End::Operation(dice.between(100, 2500)));
            }
            Mutant::CommitAfterRevocation => {
                self.sinks.iter_mut().for_each(|sink| sink.chunk_age = 300);
                self.each_life(|life, _| {
                    life.lasts = life.lasts.max(15_000);
                    life.actions.restart = 25;
                    life.actions.reload = 15;
                    life.store.slow = 300;
                    life.unrest.zombies = 700;
                    life.unrest.zombie_life = 6_000;
                });
            }
            Mutant::StaleOverNewer | Mutant::GivenUpKept => {
                self.sinks.iter_mut().for_each(|sink| sink.place = Place::Store);
                self.each_life(|life, _| {
                    life.actions.reload = 20;
                    life.actions.unpin = 20;
                    life.store.late = 60;
                    life.store.unanswered = 60;
                });
            }
            Mutant::NoFolderSync => self.each_life(|life, _| life.end = End::Power),
            Mutant::SameEpoch => {
                self.topic.durability = *dice.pick(&[Durability::Interval, Durability::Os]);
                self.each_life(|life, _| {
                    life.lasts = life.lasts.min(3_000);
                    life.actions.produce = 80;
                    life.end = End::Power;
                });
            }
            Mutant::RetentionPastPin => {
                self.topic.retention_bytes = Some(1);
                self.topic.segment_bytes = 1 << 10;
                self.each_life(|life, _| {
                    life.actions.clean = 25;
                    life.actions.silence = 8;
                    life.actions.pause = 8;
                });
            }
            Mutant::DeadLetterTwice => {
                self.habits.not_json = 250;
                self.sinks.iter_mut().for_each(|sink| sink.format = "json-lines");
                self.each_life(|life, dice| life.end = End::Operation(dice.between(100, 2500)));
            }
            Mutant::SettingsUnderPin => self.each_life(|life, dice| {
                life.actions.reload = 25;
                life.store.refused = 300;
                if dice.one_in(2) {
                    life.end = End::Power;
                }
            }),
            Mutant::BudgetHeldWaiting => {
                self.budget = 64 << 20;
                while self.sinks.len() < 2 {
                    let sink = SinkShape::new(self.sinks.len() as u64, dice);
                    self.sinks.push(sink);
                }
                self.each_life(|life, _| {
                    life.lasts = life.lasts.max(10_000);
                    life.actions.read_only = 8;
                });
            }
            // Noticed by the engine's and the connectors' own tests: no sink here names what it writes by record.
            Mutant::SameIncarnation
            | Mutant::WholeAgain
            | Mutant::AdaptiveCuts
            | Mutant::KeyByAttempt
            | Mutant::VersionWithoutIncarnation => {}
            // Noticed by the engine's own tests: no source here has transforms.
            Mutant::LetterForgotten | Mutant::LetterForEver => {}
            // Noticed by the log's own runs and the Kafka server's tests: the engine is neither a producer nor a group's member.
            Mutant::ProducersForgotten
            | Mutant::SequencesKept
            | Mutant::DuplicateBeforeSync
            | Mutant::SessionForEver
            | Mutant::CommitOfOldGeneration
            | Mutant::SyncBeforeLeader
            | Mutant::AssignBeforeSave
            | Mutant::UnfencedInstance
            | Mutant::TransactionOfOldGeneration
            | Mutant::TimeoutOverEnd
            | Mutant::IdNotForgotten
            | Mutant::StablePastOpen
            | Mutant::AbortedForgotten
            | Mutant::MarkerWithoutFence
            | Mutant::OpenForgotten
            | Mutant::CompleteBeforeMarkers
            | Mutant::AnswerBeforeSave
            | Mutant::SameProducerEpoch
            | Mutant::OutcomeForgotten
            | Mutant::OffsetsBeforeMarker
            | Mutant::StartBeforeSync
            | Mutant::StartForgotten => {}
        }
    }

    fn each_life(&mut self, change: impl Fn(&mut LifeShape, &mut Dice)) {
        let mut dice = Dice::new(self.seed, "aim");
        self.lives.iter_mut().for_each(|life| change(life, &mut dice));
    }
}

impl SinkShape {
    fn new(number: u64, dice: &mut Dice) -> Self {
        SinkShape {
            name: format!("sink{number}"),
            place: *dice.pick(&[Place::Store, Place::Folder]),
            format: dice.pick::<&str>(&["lines", "json-lines", "records"]),
            layout: *dice.pick(&[Layout::Template, Layout::Dated, Layout::Confluent]),
            chunk_bytes: dice.between(300, 6000),
            chunk_records: *dice.pick(&[None, Some(3), Some(40)]),
            chunk_age: *dice.pick(&[100, 1000, 5000]),
        }
    }

    /// Changes what shapes its names and records, or when its chunks are ripe.
    pub(crate) fn change(&mut self, dice: &mut Dice) {
        match dice.below(4) {
            0 => self.format = dice.pick::<&str>(&["lines", "json-lines", "records"]),
            1 => self.layout = *dice.pick(&[Layout::Template, Layout::Dated, Layout::Confluent]),
            2 => self.chunk_bytes = dice.between(300, 6000),
            _ => self.chunk_age = *dice.pick(&[100, 1000, 5000]),
        }
    }
}

impl LifeShape {
    fn new(dice: &mut Dice) -> Self {
        let lasts = dice.between(500, 12_000);
        let end = match dice.below(6) {
            0 => End::Clean,
            1 => End::Power,
            2 => End::Kill,
            _ => End::Operation(dice.between(1, 2500)),
        };
        let mut disk = DiskFaults::default();
        if dice.one_in(3) {
            disk = DiskFaults {
                sync: *dice.pick(&[0, 5, 30]),
                freeze: 0,
                sync_folder: *dice.pick(&[0, 20]),
                write: *dice.pick(&[0, 10]),
                names: *dice.pick(&[0, 10]),
                read: *dice.pick(&[0, 0, 2]),
                read_only: false,
            };
        }
        let mut store = StoreFaults::default();
        if dice.one_in(2) {
            store = StoreFaults {
                refused: *dice.pick(&[0, 50, 200]),
                unanswered: *dice.pick(&[0, 50]),
                late: *dice.pick(&[0, 30]),
                slow: *dice.pick(&[0, 100]),
                silent: false,
            };
        }
        let unrest = Unrest::pick(dice);
        LifeShape {
            lasts,
            end,
            pause: *dice.pick(&[0, 10, 5_000]),
            disk,
            store,
            unrest,
            pace: *dice.pick(&[30, 100, 300]),
            actions: Actions::ALL,
        }
    }

    /// The life in which nothing goes wrong.
    pub(crate) const LAST: LifeShape = LifeShape {
        lasts: 0,
        end: End::Clean,
        pause: 0,
        disk: DiskFaults { sync: 0, freeze: 0, sync_folder: 0, write: 0, names: 0, read: 0, read_only: false },
        store: StoreFaults { refused: 0, unanswered: 0, late: 0, slow: 0, silent: false },
        unrest: Unrest::NONE,
        pace: 0,
        actions: Actions::ALL,
    };
}
