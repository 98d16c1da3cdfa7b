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
            _ => {
                read_and_sent(broker, writer, part, offset, length).await?;
                length as u64
            }
        };
    }
    Ok(())
}

/// Gives bytes to a socket that are in memory; how many it took.
async fn passed_on(socket: &TcpStream, part: &Part, offset: u64, length: usize) -> io::Result<usize> {
    socket.async_io(Interest::WRITABLE, || part.file.send(socket.as_fd(), offset, length)).await
}

/// Reads bytes, off the threads of connections, and writes them.
async fn read_and_sent(
    broker: &Broker,
    writer: &mut BufWriter<Writer>,
    part: &Part,
    offset: u64,
    length: usize,
) -> Result<(), Broken> {
    // Whoever has this room waits for its client alone, and not for long.
    let room = broker.reading.acquire_many(length as u32).await;
    let _room = room.map_err(|_| Broken("the end".to_owned()))?;
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
    in_time(writer.write_all(&bytes)).await
}
