//! An HTTP server that answers by script and remembers what it was sent.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What it does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with a status, headers and a body.
    Answer(u16, &'static str, String),
    /// Answers 200 to half.
    Half,
    /// Takes it and ends the connection.
    Reset,
    /// Takes it and says nothing.
    Silence,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Inflated.
    pub(crate) body: Vec<u8>,
    /// Whether it was answered with success.
    pub(crate) taken: bool,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn key(&self) -> String {
        self.headers.get("idempotency-key").cloned().unwrap_or_default()
    }
}

type Respond = dyn Fn(&Seen) -> Option<Act> + Send + Sync;

#[derive(Default)]
struct State {
    script: VecDeque<Act>,
    seen: Vec<Seen>,
    at_once: usize,
    most_at_once: usize,
}

/// A server; ends when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server that takes everything.
    pub(crate) async fn start() -> Server {
        Server::with(|_| None).await
    }

    /// A server that does what `respond` says, else the next act of the script, else takes everything.
    pub(crate) async fn with(respond: impl Fn(&Seen) -> Option<Act> + Send + Sync + 'static) -> Server {
        // Long enough for others to come in at the same time.
        Server::slow(Duration::from_millis(2), respond).await
    }

    /// The same, which takes so long for each request.
    pub(crate) async fn slow(
        pause: Duration,
        respond: impl Fn(&Seen) -> Option<Act> + Send + Sync + 'static,
    ) -> Server {
        Server::listen(None, pause, respond).await
    }

    /// A server that takes everything, over TLS.
    pub(crate) async fn secure(acceptor: TlsAcceptor) -> Server {
        Server::listen(Some(acceptor), Duration::ZERO, |_| None).await
    }

    async fn listen(
        acceptor: Option<TlsAcceptor>,
        pause: Duration,
        respond: impl Fn(&Seen) -> Option<Act> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, respond): (_, Arc<Respond>) = (state.clone(), Arc::new(respond));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, respond) = (shared.clone(), respond.clone());
                match acceptor.clone() {
                    None => drop(tokio::spawn(serve(stream, pause, shared, respond))),
                    Some(acceptor) => drop(tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, pause, shared, respond).await;
                        }
                    })),
                }
            }
        });
        Server { url, state, task }
    }

    /// What it does with the next requests.
    pub(crate) fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().script.extend(acts);
    }

    /// All requests.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The bodies that it took, each key once, in the order in which they came.
    pub(crate) fn taken(&self) -> Vec<Seen> {
        let mut taken: Vec<Seen> = Vec::new();
        for seen in self.seen().into_iter().filter(|seen| seen.taken) {
            match taken.iter().find(|known| known.key() == seen.key()) {
                Some(known) => assert_eq!(known.body, seen.body, "one key, two bodies"),
                None => taken.push(seen),
            }
        }
        taken
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.state.lock().unwrap().most_at_once
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    pause: Duration,
    state: Arc<Mutex<State>>,
    respond: Arc<Respond>,
) {
    let mut buffer = Vec::new();
    while let Some(mut seen) = request(&mut stream, &mut buffer).await {
        let act = {
            let mut state = state.lock().unwrap();
            state.at_once += 1;
            state.most_at_once = state.most_at_once.max(state.at_once);
            let act = respond(&seen).or_else(|| state.script.pop_front());
            act.unwrap_or(Act::Answer(200, "", String::new()))
        };
        seen.taken = matches!(act, Act::Answer(200..=299, ..));
        state.lock().unwrap().seen.push(seen);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        state.lock().unwrap().at_once -= 1;
        let written = match act {
            Act::Answer(status, headers, body) => {
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await
            }
            Act::Half => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
                return;
            }
            Act::Reset => return,
            Act::Silence => std::future::pending().await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < end + 4 + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body: Vec<u8> = buffer.drain(..end + 4 + length).skip(end + 4).collect();
    let body = match headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => {
            let mut inflated = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut inflated).unwrap();
            inflated
        }
        Some("zstd") => zstd::stream::decode_all(&body[..]).unwrap(),
        _ => body,
    };
    Some(Seen { line, headers, body, taken: false })
}
