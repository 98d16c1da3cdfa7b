//! What answers: a log, and what clients are told of the node that keeps it.

use std::sync::Arc;

use aqueduct_api::{Edge, Store};

/// Answers requests; connections share one.
pub struct Broker {
    /// Where records are.
    pub(crate) store: Arc<dyn Store>,
    /// Time and threads.
    pub(crate) edge: Edge,
    /// What was declared.
    pub(crate) options: Options,
}

/// What is declared of the endpoint.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host that clients are told to connect to.
    pub host: String,
    /// The port that clients are told to connect to.
    pub port: u16,
    /// Whether a topic that does not exist is made when somebody writes to it or asks for it.
    pub auto_create: bool,
}

impl Broker {
    /// Answers from `store`.
    pub fn new(store: Arc<dyn Store>, edge: Edge, options: Options) -> Self {
        Broker { store, edge, options }
    }
}
