//! Records from a file to a client: from the system's memory straight to the socket where that can be, and never so that
//! a connection's thread waits for the disk.

use std::io;
use std::os::fd::AsFd as _;

use aqueduct_api::Part;
use tokio::io::{AsyncWriteExt as _, BufWriter, Interest};
use tokio::net::TcpStream;

use crate::broker::Broker;
use crate::call::Broken;
use crate::connection::in_time;
use crate::security::stream::Writer;

/// Bytes that are handed to the socket at once.
const STRETCH: usize = 256 << 10;
/// What a connection may read that has no room for more: ten thousand of them take 160 MiB.
const WITHOUT_ROOM: usize = 16 << 10;

/// Sends a part of a file.
pub(crate) async fn send(broker: &Broker, writer: &mut BufWriter<Writer>, part: &Part) -> Result<(), Broken> {
    in_time(writer.flush()).await?;
    let (mut offset, end) = (part.offset, part.offset + part.length as u64);
    while offset < end {
        let length = STRETCH.min((end - offset) as usize);
        offset += match writer.get_ref() {
            Writer::Plain(socket) if part.file.is_in_memory(offset, length) => {
                let sent = in_time(passed_on(socket.as_ref(), part, offset, length)).await?;
                if sent == 0 {
                    return Err(Broken("records were cut off while they were sent".to_owned()));
                }
                sent as u64
            }
            _ => read_and_sent(broker, writer, part, offset, length).await? as u64,
        };
    }
    Ok(())
}

/// Gives bytes to a socket that are in memory; how many it took.
async fn passed_on(socket: &TcpStream, part: &Part, offset: u64, length: usize) -> io::Result<usize> {
    socket.async_io(Interest::WRITABLE, || part.file.send(socket.as_fd(), offset, length)).await
}

/// Reads bytes, off the threads of connections, and writes them; how many.
async fn read_and_sent(
    broker: &Broker,
    writer: &mut BufWriter<Writer>,
    part: &Part,
    offset: u64,
    length: usize,
) -> Result<usize, Broken> {
    // Whoever has this room keeps it as long as its client is slow. Nobody waits for that: where there is none, little is read.
    let room = broker.reading.try_acquire_many(length as u32).ok();
    let length = if room.is_some() { length } else { length.min(WITHOUT_ROOM) };
    let file = part.file.clone();
    let read = move || {
        let mut bytes = Vec::with_capacity(length);
        file.read_at(&mut bytes, length, offset).map(|_| bytes)
    };
    let lost = |cause: &dyn std::fmt::Display| Broken(format!("records could not be read: {cause}"));
    let bytes = broker.edge.blocking(read).await.map_err(|cause| lost(&cause))?.map_err(|cause| lost(&cause))?;
    if bytes.len() < length {
        return Err(Broken("records were cut off while they were sent".to_owned()));
    }
    in_time(writer.write_all(&bytes)).await?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::Arc;
    use std::time::Duration;

    use aqueduct_api::disk::{File, Metadata};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::broker::Options;
    use crate::groups::tests::store::Memory;
    use crate::security::stream::Stream;

    /// A file on a disk, none of it in memory.
    struct Cold(Vec<u8>);

    impl File for Cold {
        fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
            let rest = &self.0[(offset as usize).min(self.0.len())..];
            buffer.extend_from_slice(&rest[..length.min(rest.len())]);
            Ok(length.min(rest.len()))
        }

        fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }

        fn sync(&self) -> io::Result<()> {
            unreachable!("it is only read")
        }

        fn metadata(&self) -> io::Result<Metadata> {
            unreachable!("it is only read")
        }
    }

    /// What a client gets of a file from `offset` on, and whether that was all, while others hold all the room.
    async fn sent(file: Vec<u8>, offset: u64, length: usize) -> (Vec<u8>, Result<(), Broken>) {
        let log = Memory::default();
        let store = Arc::new(log.clone());
        let broker = Broker::new(store.clone(), log.edge(), Options::at("localhost", 9092), store);
        let _others = broker.reading.try_acquire_many(broker.reading.available_permits() as u32).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut client = client.unwrap();
        let reading = async {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        };
        let sending = async {
            let (_reader, writer) = Stream::Plain(accepted.unwrap().0).split();
            let part = Part { file: Arc::new(Cold(file)), offset, length };
            let mut writer = BufWriter::new(writer);
            send(&broker, &mut writer, &part).await?;
            in_time(writer.flush()).await
        };
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(reading, sending) }).await.unwrap()
    }

    #[tokio::test]
    async fn nobody_waits_for_the_clients_of_others() {
        let file: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_be_bytes).collect();
        let (got, outcome) = sent(file.clone(), 5, 3_000_000).await;
        assert_eq!(outcome, Ok(()));
        assert!(got == file[5..3_000_005], "{} bytes, not those of the file", got.len());
    }

    #[tokio::test]
    async fn a_file_that_ends_early_ends_the_connection() {
        let (got, outcome) = sent(vec![7; 500_000], 0, 600_000).await;
        assert!(outcome.is_err_and(|cause| cause.0.contains("cut off")));
        assert!(got.len() <= 500_000 && got.iter().all(|byte| *byte == 7));
    }
}
