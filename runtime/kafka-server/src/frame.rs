//! Frames as they come from a socket: a length, a header, a body; memory for one is taken from what all may take.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::call::Broken;

/// How fast a frame must come at least, once it has begun, in bytes a second.
const SLOWEST: u64 = 256 << 10;

/// What a connection may ask for.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The longest frame.
    pub(crate) frame: usize,
    /// How long a connection may say nothing.
    pub(crate) idle: Duration,
    /// How long the rest of a frame may take, besides what its length allows.
    pub(crate) rest: Duration,
}

/// A frame that has come, and its share of what all frames in flight may take.
pub(crate) struct Frame {
    /// What follows the length.
    pub(crate) bytes: Bytes,
    /// Given back when the request is answered.
    pub(crate) room: OwnedSemaphorePermit,
}

/// The next frame; `None` where the client has closed between two.
pub(crate) async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    limits: &Limits,
    room: &Arc<Semaphore>,
) -> Result<Option<Frame>, Broken> {
    let mut length = [0; 4];
    let first = timeout(limits.idle, reader.read(&mut length[..1])).await;
    match first.map_err(|_| Broken("nothing was said for too long".to_owned()))? {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(cause) => return Err(Broken(format!("it broke off: {cause}"))),
    }
    let slow = |_| Broken("a frame came too slowly".to_owned());
    let broken_off = |cause: std::io::Error| Broken(format!("it broke off within a frame: {cause}"));
    let begun = Instant::now();
    timeout_at(begun + limits.rest, reader.read_exact(&mut length[1..])).await.map_err(slow)?.map_err(broken_off)?;
    let said = i32::from_be_bytes(length);
    let length = usize::try_from(said).ok().filter(|length| *length <= limits.frame);
    let length = length.ok_or_else(|| Broken(format!("a frame of {said} bytes")))?;
    // Whoever waits for room has not been slow.
    let permits = u32::try_from(length).map_err(|_| Broken("a frame too long".to_owned()))?;
    let room = room.clone().acquire_many_owned(permits).await.map_err(|_| Broken("the end".to_owned()))?;
    let due = Instant::now() + limits.rest + Duration::from_secs(length as u64 / SLOWEST);
    let mut bytes = BytesMut::with_capacity(length);
    let rest = async {
        let mut rest = reader.take(length as u64);
        while bytes.len() < length {
            if rest.read_buf(&mut bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    };
    timeout_at(due, rest).await.map_err(slow)?.map_err(broken_off)?;
    Ok(Some(Frame { bytes: bytes.freeze(), room }))
}
