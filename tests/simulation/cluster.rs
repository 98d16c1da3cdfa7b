//! A search cluster far away, behind the real sink's wire: documents by id and version, requests that come late, in part
//! or never, and answers that do not come or make no sense.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_elasticsearch::{Call, Reply, Wire};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::life::{Life, Time, Trace};

/// What goes wrong, each so many times in a thousand requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClusterFaults {
    /// Turned away whole, by the cluster or by what stands before it.
    pub(crate) refused: u64,
    /// Taken in part: some of the actions are turned away.
    pub(crate) partial: u64,
    /// Done, but the answer is lost.
    pub(crate) unanswered: u64,
    /// Called lost, and done up to two minutes later.
    pub(crate) late: u64,
    /// Done, and answered by something that is no answer.
    pub(crate) garbled: u64,
    /// Takes up to five seconds.
    pub(crate) slow: u64,
    /// Nothing is answered at all.
    pub(crate) silent: bool,
}

/// The remote system.
pub(crate) struct Cluster {
    state: Mutex<State>,
    time: Arc<Time>,
    trace: Arc<Trace>,
}

struct State {
    documents: BTreeMap<(String, String), Document>,
    /// Requests on their way, by when they arrive and in which order they were sent.
    arriving: BTreeMap<(i64, u64), Vec<Action>>,
    answers: BTreeMap<u64, Vec<Value>>,
    next: u64,
    faults: ClusterFaults,
    dice: Dice,
}

/// What is known of an id; a deleted document's version is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    version: i64,
    pub(crate) source: Option<Value>,
}

/// One action of a request.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    kind: String,
    index: String,
    pub(crate) id: String,
    version: i64,
    source: Option<Value>,
    /// Whether the cluster has no room for it.
    turned_away: bool,
}

impl Action {
    /// The actions of a bulk request's body.
    pub(crate) fn all(body: &[u8]) -> Vec<Action> {
        let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut actions = Vec::new();
        while let Some(line) = lines.next() {
            let line: BTreeMap<String, Value> = serde_json::from_slice(line).expect("an action");
            let (kind, what) = line.into_iter().next().expect("a kind of action");
            let source = (kind != "delete").then(|| serde_json::from_slice(lines.next().expect("a document")).unwrap());
            let text = |key: &str| what[key].as_str().unwrap().to_owned();
            assert_eq!(what["version_type"], "external");
            let (index, id, version) = (text("_index"), text("_id"), what["version"].as_i64().unwrap());
            actions.push(Action { kind, index, id, version, source, turned_away: false });
        }
        actions
    }
}

impl Cluster {
    pub(crate) fn new(dice: Dice, time: Arc<Time>, trace: Arc<Trace>) -> Arc<Self> {
        let state = State {
            documents: BTreeMap::new(),
            arriving: BTreeMap::new(),
            answers: BTreeMap::new(),
            next: 0,
            faults: ClusterFaults::default(),
            dice,
        };
        Arc::new(Cluster { state: Mutex::new(state), time, trace })
    }

    /// The way to it in one life of the machine.
    pub(crate) fn connect(self: &Arc<Self>, life: Arc<Life>) -> SimWire {
        SimWire { cluster: self.clone(), life }
    }

    /// Changes what goes wrong.
    pub(crate) fn set_faults(&self, faults: ClusterFaults) {
        self.state.lock().unwrap().faults = faults;
    }

    /// Everything that is still on its way arrives.
    pub(crate) fn deliver_all(&self) {
        self.deliver(i64::MAX);
    }

    /// The documents of an index, by id; deleted ones are none.
    pub(crate) fn documents(&self, index: &str) -> BTreeMap<String, Value> {
        let state = self.state.lock().unwrap();
        let of_index = state.documents.iter().filter(|((name, _), _)| name == index);
        of_index.filter_map(|((_, id), document)| Some((id.clone(), document.source.clone()?))).collect()
    }

    /// Carries out what has arrived by now.
    fn deliver(&self, now: i64) {
        let mut state = self.state.lock().unwrap();
        while let Some(arrives) = state.arriving.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, number), actions) = arrives.remove_entry();
            let (mut items, mut told) = (Vec::with_capacity(actions.len()), String::new());
            for action in actions {
                let (id, place) = (action.id.clone(), (action.version >> 48, action.version & ((1 << 48) - 1)));
                let (status, item) = state.apply(action);
                told += &format!(" {id}@{}.{}:{status}", place.0, place.1);
                items.push(item);
            }
            self.trace.event(&self.time, format!("cluster carries out request {number}:{told}"));
            state.answers.insert(number, items);
        }
    }
}

impl State {
    /// Carries out an action; what is said of it.
    fn apply(&mut self, action: Action) -> (u16, Value) {
        let Action { kind, index, id, version, source, turned_away } = action;
        let failed = |status: u16, kind_of: &str, reason: String| {
            (status, json!({ &kind: { "_id": id, "status": status, "error": { "type": kind_of, "reason": reason } } }))
        };
        if turned_away {
            return failed(429, "es_rejected_execution_exception", "the queue is full".to_owned());
        }
        if source.as_ref().is_some_and(|source| source["kind"] == "bad") {
            return failed(400, "mapper_parsing_exception", "no such field".to_owned());
        }
        let known = self.documents.get(&(index.clone(), id.clone()));
        if let Some(known) = known.filter(|known| known.version >= version) {
            let reason = format!(
                "[{id}]: version conflict, current version [{}] is higher or equal to the one provided [{version}]",
                known.version
            );
            return failed(409, "version_conflict_engine_exception", reason);
        }
        let status = match (&source, known) {
            (None, None) => 404,
            (None, Some(known)) if known.source.is_none() => 404,
            (_, None) => 201,
            _ => 200,
        };
        self.documents.insert((index, id.clone()), Document { version, source });
        (status, json!({ &kind: { "_id": id, "status": status } }))
    }
}

/// What becomes of a request.
enum Fate {
    Refused,
    Silence,
    /// Arrives after so many milliseconds; whether and how that is answered.
    Arrives(i64, Heard),
}

enum Heard {
    Right,
    Garbled,
    Never,
}

/// The cluster as one life of the machine reaches it.
#[derive(Clone)]
pub(crate) struct SimWire {
    cluster: Arc<Cluster>,
    life: Arc<Life>,
}

impl SimWire {
    /// What becomes of a request, and of which of its actions the cluster has no room for.
    fn fate(&self, actions: &mut [Action]) -> Fate {
        let state = &mut *self.cluster.state.lock().unwrap();
        let (faults, dice) = (state.faults, &mut state.dice);
        if faults.silent {
            return Fate::Silence;
        }
        if dice.permille(faults.partial) {
            actions.iter_mut().for_each(|action| action.turned_away = dice.one_in(2));
        }
        let refused = faults.refused;
        let unanswered = refused + faults.unanswered;
        let late = unanswered + faults.late;
        let garbled = late + faults.garbled;
        let slow = garbled + faults.slow;
        match dice.below(1000) {
            roll if roll < refused => Fate::Refused,
            roll if roll < unanswered => Fate::Arrives(dice.between(1, 2000) as i64, Heard::Never),
            roll if roll < late => Fate::Arrives(dice.between(5_000, 120_000) as i64, Heard::Never),
            roll if roll < garbled => Fate::Arrives(dice.between(1, 50) as i64, Heard::Garbled),
            roll if roll < slow => Fate::Arrives(dice.between(50, 5_000) as i64, Heard::Right),
            _ => Fate::Arrives(dice.between(1, 50) as i64, Heard::Right),
        }
    }

    /// A machine without power hears nothing.
    async fn alive(&self) {
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }

    fn roll<T>(&self, of: impl FnOnce(&mut Dice) -> T) -> T {
        of(&mut self.cluster.state.lock().unwrap().dice)
    }
}

#[async_trait]
impl Wire for SimWire {
    async fn exchange(&self, call: Call) -> Result<Reply, String> {
        self.alive().await;
        let mut actions = Action::all(&call.body);
        let reply = |status: u16, body: String| Reply { status, headers: Default::default(), body: Bytes::from(body) };
        let (delay, heard) = match self.fate(&mut actions) {
            Fate::Silence => std::future::pending().await,
            Fate::Refused => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let status = self.roll(|dice| *dice.pick(&[429, 503, 502, 500]));
                self.cluster.trace.event(&self.cluster.time, format!("cluster answers {status}"));
                return Ok(reply(status, "<html>too much</html>".to_owned()));
            }
            Fate::Arrives(delay, heard) => (delay, heard),
        };
        let number = {
            let state = &mut *self.cluster.state.lock().unwrap();
            state.next += 1;
            state.arriving.insert((self.cluster.time.now() + delay, state.next), actions);
            state.next
        };
        if let Heard::Never = heard {
            let patience = self.roll(|dice| dice.between(1, 5_000));
            tokio::time::sleep(Duration::from_millis(patience)).await;
            self.alive().await;
            return Err("the connection was closed before an answer came".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(delay as u64)).await;
        self.alive().await;
        self.cluster.deliver(self.cluster.time.now());
        let items = self.cluster.state.lock().unwrap().answers.remove(&number).expect("the request has arrived");
        let mut body = json!({ "errors": true, "items": items }).to_string();
        if let Heard::Garbled = heard {
            body = match self.roll(|dice| dice.below(3)) {
                0 => "<html>back soon</html>".to_owned(),
                1 => body[..body.len() / 2].to_owned(),
                _ => json!({ "items": [] }).to_string(),
            };
        }
        Ok(reply(200, body))
    }
}
