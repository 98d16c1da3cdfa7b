//! What clients ask of a server that a test plays: HTTP with bodies of known length.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A request.
pub struct Asked {
    head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The next request of a connection; `buffer` holds what of the one after it came along. `None` when the client has gone.
    pub async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let mut asked = Asked { head, body: Vec::new() };
        let length: usize = asked.header("content-length").unwrap().parse().unwrap();
        while buffer.len() < end + length {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        asked.body = buffer.drain(..end + length).skip(end).collect();
        Some(asked)
    }

    /// A header by its name in small letters, its value in small letters too.
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }
}
