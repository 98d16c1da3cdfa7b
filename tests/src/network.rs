//! A network between a client and an HTTP server that loses, delays and replaces answers on demand. Only for what real
//! servers will not do when asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server gets it and answers, the client never hears of it: the connection ends.
    LoseAnswer,
    /// The server never hears of it: the connection ends.
    LoseRequest,
    /// The server never hears of it, the client waits.
    Swallow,
    /// The server never hears of it, the client gets this status and S3's error of that code.
    Answer(u16, &'static str),
    /// The server gets it, the client waits that much longer for the answer.
    Delay(Duration),
    /// In the body of the server's answer, each first text is replaced by the second wherever it stands.
    Rewrite(Vec<(&'static str, &'static str)>),
}

struct Rule {
    method: &'static str,
    /// Part of the path or query.
    part: String,
    fault: Fault,
    times: usize,
}

/// A network in front of one server.
pub struct Network {
    /// Where clients find it: `http://host:port`.
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// First lines of all requests.
    requests: Vec<String>,
    /// Their headers, with the first lines.
    heads: Vec<String>,
    suffered: usize,
}

impl Network {
    /// A network in front of `endpoint`, `http://host:port`, that does no harm yet.
    pub async fn before(endpoint: &str) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (server, shared) = (endpoint.trim_start_matches("http://").to_owned(), state.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A connection that breaks is what this network is for.
                tokio::spawn(carry(client, server.clone(), shared.clone()));
            }
        });
        Network { endpoint: format!("http://{address}"), state, task }
    }

    /// The next `times` requests of `method` whose path or query has `part` in it suffer `fault`. Rules are tried in the
    /// order in which they were given.
    pub fn harm(&self, method: &'static str, part: &str, fault: Fault, times: usize) {
        self.state.lock().unwrap().rules.push(Rule { method, part: part.to_owned(), fault, times });
    }

    /// Does no more harm from now on.
    pub fn heal(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    /// How many requests suffered something.
    pub fn suffered(&self) -> usize {
        self.state.lock().unwrap().suffered
    }

    /// The methods, paths and queries of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// First lines and headers of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.state.lock().unwrap().heads.clone()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn fault(&mut self, request: &str) -> Option<Fault> {
        self.requests.push(request.to_owned());
        let (method, target) = request.split_once(' ')?;
        let hit = |rule: &&mut Rule| rule.times > 0 && rule.method == method && target.contains(&rule.part);
        let rule = self.rules.iter_mut().find(hit)?;
        rule.times -= 1;
        self.suffered += 1;
        Some(rule.fault.clone())
    }
}

/// Carries one request and its answer; the connection ends with it.
async fn carry(mut client: TcpStream, server: String, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut begin = Vec::new();
    let head = loop {
        if let Some(at) = begin.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut begin).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&begin[..head]).into_owned();
    let request = text.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let fault = {
        let mut state = state.lock().unwrap();
        state.heads.push(text.clone());
        state.fault(&request)
    };
    match fault {
        Some(Fault::LoseRequest) => return Ok(()),
        Some(Fault::Swallow) => return client.read_to_end(&mut begin).await.map(drop),
        Some(Fault::Answer(status, code)) => {
            drain(&mut client, &text, begin.len() - head - 4).await?;
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>");
            let answer = format!(
                "HTTP/1.1 {status} {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            return client.write_all(answer.as_bytes()).await;
        }
        _ => {}
    }
    // One request a connection, so that each one's fate is its own; the header is none of those that are signed.
    begin.splice(head..head, b"\r\nConnection: close".iter().copied());
    let mut answer = exchange(&mut client, TcpStream::connect(server).await?, &begin).await?;
    match fault {
        // The answer was awaited, so what was asked for has happened.
        Some(Fault::LoseAnswer) => return Ok(()),
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Rewrite(texts)) => answer = rewritten(&answer, &texts),
        _ => {}
    }
    client.write_all(&answer).await
}

/// Sends a request that `begin`s so, its rest still to come from the client, and returns the whole answer.
async fn exchange(client: &mut TcpStream, mut server: TcpStream, begin: &[u8]) -> std::io::Result<Vec<u8>> {
    server.write_all(begin).await?;
    let (mut from_server, mut to_server) = server.split();
    let rest = async {
        tokio::io::copy(client, &mut to_server).await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    let mut answer = Vec::new();
    tokio::select! {
        read = from_server.read_to_end(&mut answer) => read.map(|_| answer),
        failed = rest => failed.map(|()| Vec::new()),
    }
}

/// An answer with another body, which ends with the connection.
fn rewritten(answer: &[u8], texts: &[(&str, &str)]) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "chunks would have to be put together: {head}");
    let has_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
    let head: Vec<_> = head.split("\r\n").filter(|line| !has_length(line)).collect();
    let body = texts.iter().fold(body.to_owned(), |body, (old, new)| body.replace(old, new));
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

/// Reads what is left of a request's body, so that the client gets to the answer.
async fn drain(client: &mut TcpStream, head: &str, mut seen: usize) -> std::io::Result<()> {
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.and_then(|(_, length)| length.trim().parse().ok()).unwrap_or(0);
    let mut buffer = vec![0; 64 << 10];
    while seen < length {
        match client.read(&mut buffer).await? {
            0 => break,
            read => seen += read,
        }
    }
    Ok(())
}
