//! Frames as they come from a socket: a length, a header, a body; memory for one is taken from what all may take.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::buffers::Buffers;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use crate::call::Broken;

/// How fast a frame must come at least, once it has begun, in bytes a second.
const SLOWEST: u64 = 256 << 10;
/// How large a buffer is that is kept, in bytes: a Java producer's largest request, whose batches have a mebibyte.
const BUFFER: usize = (1 << 20) + (64 << 10);
/// How many are kept while nobody needs them: more than a producer has in flight.
const BUFFERS: usize = 8;

/// How many bytes of a large frame are worth waking up for, at most. A mebibyte comes in a dozen pieces, and to wake up for each
/// cost a fifth of what producing costs.
const STRETCH: usize = 1 << 20;

/// What frames come from.
pub(crate) trait Incoming: AsyncRead + Unpin {
    /// Says that whoever waits for bytes needs not be woken for fewer. To be called with no more than surely comes.
    fn wake_at(&self, bytes: usize);
}

impl<R: Incoming> Incoming for BufReader<R> {
    fn wake_at(&self, bytes: usize) {
        self.get_ref().wake_at(bytes);
    }
}

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

/// What all frames in flight may take. Bytes are given as they come, but for frames of usual length while there is plenty: all
/// who announce one and send nothing hold no more than half.
#[derive(Clone)]
pub(crate) struct Room {
    all: Arc<Semaphore>,
    /// What large frames may take of it, beyond what any frame may: the rest is for the others, whatever they do.
    large: Arc<Semaphore>,
    /// How much all are.
    most: usize,
    /// Memory of frames that are answered.
    buffers: Buffers,
}

/// A frame's share.
pub(crate) struct Taken {
    all: OwnedSemaphorePermit,
    large: OwnedSemaphorePermit,
}

/// What is given at first.
const FIRST: usize = 64 << 10;
/// What is given next is so many times what has come.
const GROWTH: usize = 4;
/// Longer frames are large.
const LARGE: usize = 1 << 20;
/// How long a frame that has begun waits for more, so that no two wait for each other.
const NO_ROOM: Duration = Duration::from_secs(10);

impl Room {
    /// So many bytes, in which a frame of `longest` bytes has room.
    pub(crate) fn new(bytes: usize, longest: usize) -> Self {
        let large = (bytes / 4 * 3).max(longest);
        let all = bytes.max(large + longest / 4).min(u32::MAX as usize);
        let (most, all, large) = (all, Arc::new(Semaphore::new(all)), Arc::new(Semaphore::new(large.min(all))));
        Room { all, large, most, buffers: Buffers::new(BUFFER, BUFFERS) }
    }

    /// Room for the first bytes of a frame, and how many those are: all where a buffer is kept for it and half of all room is
    /// free. Who waits for them holds nothing.
    async fn begin(&self, length: usize) -> Result<(usize, Taken), Broken> {
        if length <= BUFFER
            && self.all.available_permits() > self.most / 2
            && let Some(large) = try_acquire(&self.large, length.max(LARGE) - LARGE)
            && let Some(all) = try_acquire(&self.all, length)
        {
            return Ok((length, Taken { all, large }));
        }
        let given = length.min(FIRST);
        Ok((given, Taken { all: acquire(&self.all, given).await?, large: acquire(&self.large, 0).await? }))
    }

    /// Room for more of it.
    async fn grow(&self, taken: &mut Taken, from: usize, to: usize) -> Result<(), Broken> {
        let more = async {
            let large = acquire(&self.large, to.max(LARGE) - from.max(LARGE)).await?;
            Ok((acquire(&self.all, to - from).await?, large))
        };
        let more = timeout(NO_ROOM, more).await;
        let (all, large) = more.map_err(|_| Broken("there was no room for its frame in time".to_owned()))??;
        taken.all.merge(all);
        taken.large.merge(large);
        Ok(())
    }

    /// Bytes that nobody has.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.all.available_permits()
    }
}

async fn acquire(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Broken> {
    let permits = u32::try_from(bytes).map_err(|_| Broken("a frame too long".to_owned()))?;
    room.clone().acquire_many_owned(permits).await.map_err(|_| Broken("the end".to_owned()))
}

fn try_acquire(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    room.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
}

/// A frame that has come, and its share of what all frames in flight may take.
pub(crate) struct Frame {
    /// What follows the length.
    pub(crate) bytes: Bytes,
    /// Given back when the request is answered.
    pub(crate) room: Taken,
}

/// The next frame; `None` where the client has closed between two.
pub(crate) async fn read<R: Incoming>(reader: &mut R, limits: &Limits, room: &Room) -> Result<Option<Frame>, Broken> {
    let Some(length) = length(reader, limits).await? else { return Ok(None) };
    let (mut given, mut taken) = room.begin(length).await?;
    // Whoever waits for room has not been slow.
    let mut due = Instant::now() + limits.rest + Duration::from_secs(length as u64 / SLOWEST);
    let mut buffer = room.buffers.take(length, given);
    loop {
        let some = async {
            let mut low = 1;
            while buffer.bytes.len() < given {
                let missing = given - buffer.bytes.len();
                let next = if length > FIRST { missing.min(STRETCH) } else { 1 };
                if next != low {
                    low = next;
                    reader.wake_at(low);
                }
                if (&mut *reader).take(missing as u64).read_buf(&mut buffer.bytes).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            if low > 1 {
                reader.wake_at(1);
            }
            Ok(())
        };
        timeout_at(due, some).await.map_err(slow)?.map_err(broken_off)?;
        if given == length {
            return Ok(Some(Frame { bytes: buffer.freeze(), room: taken }));
        }
        let next = length.min(given * GROWTH);
        let asked = Instant::now();
        room.grow(&mut taken, given, next).await?;
        due += asked.elapsed();
        buffer.grow(length, next);
        given = next;
    }
}

/// The next frame's length.
async fn length<R: Incoming>(reader: &mut R, limits: &Limits) -> Result<Option<usize>, Broken> {
    let mut length = [0; 4];
    let first = timeout(limits.idle, reader.read(&mut length[..1])).await;
    match first.map_err(|_| Broken("nothing was said for too long".to_owned()))? {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(cause) => return Err(Broken(format!("it broke off: {cause}"))),
    }
    let due = Instant::now() + limits.rest;
    timeout_at(due, reader.read_exact(&mut length[1..])).await.map_err(slow)?.map_err(broken_off)?;
    let said = i32::from_be_bytes(length);
    let length = usize::try_from(said).ok().filter(|length| *length <= limits.frame);
    length.map(Some).ok_or_else(|| Broken(format!("a frame of {said} bytes")))
}

fn slow(_: Elapsed) -> Broken {
    Broken("a frame came too slowly".to_owned())
}

fn broken_off(cause: std::io::Error) -> Broken {
    Broken(format!("it broke off within a frame: {cause}"))
}
