//! Threads that are none: jobs and connectors are tasks of the one simulated runtime, delayed at random. Aborting a
//! connector sometimes takes effect only much later: its owner was paused and wakes when somebody else has taken over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::edge::{Abort, Threads};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::dice::Dice;
use crate::life::{Life, Time, Trace};

/// How unruly threads are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unrest {
    /// How many of a thousand blocking jobs wait for up to 20 ms.
    pub(crate) slow: u64,
    /// How many of a thousand blocking jobs wait for up to 2 s.
    pub(crate) stuck: u64,
    /// How many of a thousand aborted connectors live on.
    pub(crate) zombies: u64,
    /// How long these do at most, milliseconds.
    pub(crate) zombie_life: u64,
}

impl Unrest {
    /// Nothing waits.
    pub(crate) const NONE: Unrest = Unrest { slow: 0, stuck: 0, zombies: 0, zombie_life: 0 };

    /// As unruly as a life may be.
    pub(crate) fn pick(dice: &mut Dice) -> Unrest {
        match dice.below(3) {
            0 => Unrest::NONE,
            1 => Unrest { slow: 100, stuck: 0, zombies: 300, zombie_life: 500 },
            _ => Unrest { slow: 100, stuck: 5, zombies: 500, zombie_life: 8000 },
        }
    }
}

/// The threads of one life.
pub(crate) struct SimThreads {
    pub(crate) life: Arc<Life>,
    pub(crate) time: Arc<Time>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) chance: Mutex<(Dice, Unrest)>,
}

impl SimThreads {
    /// Changes how unruly the threads are.
    pub(crate) fn set(&self, unrest: Unrest) {
        self.chance.lock().unwrap().1 = unrest;
    }

    fn delay(&self) -> Option<Duration> {
        let (dice, unrest) = &mut *self.chance.lock().unwrap();
        match dice.below(1000) {
            roll if roll < unrest.stuck => Some(Duration::from_millis(dice.between(1, 2000))),
            roll if roll < unrest.stuck + unrest.slow => Some(Duration::from_millis(dice.between(1, 20))),
            _ => None,
        }
    }
}

impl Threads for SimThreads {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        let (delay, life) = (self.delay(), self.life.clone());
        tokio::spawn(async move {
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            if life.is_over() {
                // A thread of a machine without power does nothing, and nobody hears of it.
                std::future::pending::<()>().await;
            }
            job();
        });
    }

    fn connector(&self, name: &str, connector: BoxFuture<'static, ()>) -> Abort {
        let (abort, mut aborted) = oneshot::channel::<Duration>();
        let task = tokio::spawn(async move {
            let mut connector = connector;
            let extra = tokio::select! {
                biased;
                Ok(extra) = &mut aborted => extra,
                () = &mut connector => return,
            };
            if !extra.is_zero() {
                // The owner was paused, and wakes for that long.
                let _ = tokio::time::timeout(extra, connector).await;
            }
        });
        drop(task);
        let (trace, time, name) = (self.trace.clone(), self.time.clone(), name.to_owned());
        let mut dice = {
            let (dice, _) = &mut *self.chance.lock().unwrap();
            Dice::new(dice.bits(), "abort")
        };
        let unrest = self.chance.lock().unwrap().1;
        Abort::new(move || {
            let extra = match dice.permille(unrest.zombies) {
                true => dice.between(1, unrest.zombie_life),
                false => 0,
            };
            trace.event(&time, format!("abort {name}, which lives for another {extra}ms"));
            // A connector that has ended needs no abort.
            let _ = abort.send(Duration::from_millis(extra));
        })
    }
}
