//! Frames as they come from a socket.

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::frame::{self, Incoming, Limits, Room};
use crate::security::stream::Stream;

impl Incoming for DuplexStream {
    fn wake_at(&self, _: usize) {}
}

const LIMITS: Limits = Limits { frame: 1000, idle: Duration::from_secs(600), rest: Duration::from_secs(10) };

/// What comes, whether the client closes then, and what becomes of it: how long the frame is.
type Case<'a> = (&'a [u8], bool, Result<Option<usize>, &'a str>);

/// What becomes of bytes, and of a client that says nothing afterwards but stays.
async fn read(bytes: &[u8], closes: bool) -> Result<Option<usize>, String> {
    let (mut client, mut server) = tokio::io::duplex(4096);
    client.write_all(bytes).await.unwrap();
    let client = (!closes).then_some(client);
    let read = frame::read(&mut server, &LIMITS, &Room::new(1000, 1000)).await;
    drop(client);
    read.map(|frame| frame.map(|frame| frame.bytes.len())).map_err(|broken| broken.0)
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_as_long_as_may_be_and_comes_in_time() {
    let cases: &[Case<'_>] = &[
        (&[0, 0, 0, 2, 7, 7], false, Ok(Some(2))),
        (&[0, 0, 0, 0], false, Ok(Some(0))),
        (&[], true, Ok(None)),
        (&[0, 0], true, Err("it broke off within a frame")),
        (&[0, 0, 0, 2, 7], true, Err("it broke off within a frame")),
        (&[0x7f, 0xff, 0xff, 0xff], false, Err("a frame of 2147483647 bytes")),
        (&[0, 0, 3, 0xe9], false, Err("a frame of 1001 bytes")),
        (&[0xff, 0xff, 0xff, 0xff], false, Err("a frame of -1 bytes")),
        (b"GET / HTTP/1.1\r\n\r\n", false, Err("a frame of 1195725856 bytes")),
        (&[], false, Err("nothing was said for too long")),
        (&[0], false, Err("a frame came too slowly")),
        (&[0, 0, 0, 2, 7], false, Err("a frame came too slowly")),
    ];
    for (bytes, closes, expected) in cases {
        match (read(bytes, *closes).await, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, *expected, "{bytes:?}"),
            (Err(why), Err(expected)) => assert!(why.starts_with(expected), "{bytes:?}: {why}"),
            (found, _) => panic!("{bytes:?}: {found:?}"),
        }
    }
}

/// A client that has said how long its frame is, and sent so much of it; and how that is read.
async fn begun(room: &Room, length: usize, sent: usize) -> (DuplexStream, JoinHandle<Result<usize, String>>) {
    let (mut client, mut server) = tokio::io::duplex(64 << 20);
    client.write_all(&(length as u32).to_be_bytes()).await.unwrap();
    client.write_all(&vec![7; sent]).await.unwrap();
    let room = room.clone();
    let reading = tokio::spawn(async move {
        let limits = Limits { frame: 8 << 20, ..LIMITS };
        let read = frame::read(&mut server, &limits, &room).await;
        // Its share is held until here.
        read.map(|frame| frame.map_or(0, |frame| frame.bytes.len())).map_err(|broken| broken.0)
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    (client, reading)
}

#[tokio::test(start_paused = true)]
async fn a_frame_takes_room_as_it_comes() {
    let room = Room::new(12 << 20, 8 << 20);
    let all = room.free();
    for (sent, taken) in [(0, 64 << 10), (63 << 10, 64 << 10), (65 << 10, 256 << 10), (5 << 20, 8 << 20)] {
        let (client, reading) = begun(&room, 8 << 20, sent).await;
        assert_eq!(all - room.free(), taken, "after {sent} bytes");
        drop(client);
        assert!(reading.await.unwrap().is_err());
        assert_eq!(room.free(), all);
    }
}

/// Two frames that come through a socket, in pieces.
async fn through_a_socket(lengths: [usize; 2], piece: usize) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let server = Stream::Plain(listener.accept().await.unwrap().0);
    let mut reader = BufReader::with_capacity(4096, server.split().0);
    let limits = Limits { frame: 8 << 20, idle: Duration::from_secs(10), ..LIMITS };
    let room = Room::new(12 << 20, 8 << 20);
    for (fill, length) in (1..).zip(lengths) {
        let sending = async {
            // It is waited for by then.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let frame = [&(length as u32).to_be_bytes()[..], &vec![fill; length]].concat();
            for piece in frame.chunks(piece) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (frame, ()) = tokio::join!(frame::read(&mut reader, &limits, &room), sending);
        let frame = frame.unwrap().unwrap();
        assert!(frame.bytes.len() == length && frame.bytes.iter().all(|byte| *byte == fill), "{lengths:?}, {piece}");
    }
    // A client that goes in the middle of a frame is not waited for.
    client.write_all(&(2_u32 << 20).to_be_bytes()).await.unwrap();
    client.write_all(&vec![7; piece]).await.unwrap();
    drop(client);
    let broken = frame::read(&mut reader, &limits, &room).await.map(|_| ()).unwrap_err();
    assert!(broken.0.starts_with("it broke off"), "{}", broken.0);
}

#[tokio::test]
async fn frames_are_whole_however_they_come_through_a_socket() {
    for piece in [1 << 10, 5000, 64 << 10, 1 << 20] {
        through_a_socket([3 << 20, 100], piece).await;
        through_a_socket([70 << 10, 1 << 20], piece).await;
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_announced_and_do_not_come_hold_no_more_than_half() {
    let room = Room::new(12 << 20, 8 << 20);
    let all = room.free();
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(begun(&room, 1 << 20, 0).await);
    }
    let whole = (all - all / 2).div_ceil(1 << 20);
    assert_eq!(all - room.free(), (whole << 20) + (40 - whole) * (64 << 10));
    let (_client, other) = begun(&room, 1 << 20, 1 << 20).await;
    assert_eq!(other.await.unwrap(), Ok(1 << 20), "who sends has room");
}

#[tokio::test(start_paused = true)]
async fn large_frames_that_come_slowly_leave_room_for_others() {
    let room = Room::new(12 << 20, 8 << 20);
    let (_first, one) = begun(&room, 8 << 20, (4 << 20) + 1).await;
    let (_second, two) = begun(&room, 8 << 20, (1 << 20) + 1).await;
    let (_third, small) = begun(&room, 1 << 20, 1 << 20).await;
    assert_eq!(small.await.unwrap(), Ok(1 << 20), "a small one has room");
    assert_eq!(two.await.unwrap().unwrap_err(), "there was no room for its frame in time");
    assert_eq!(one.await.unwrap().unwrap_err(), "a frame came too slowly");
}

#[tokio::test(start_paused = true)]
async fn a_frame_waits_while_others_take_all_the_memory() {
    let room = Room::new(1 << 20, 1 << 20);
    let all = room.free();
    let mut others = Vec::new();
    while room.free() > 0 {
        others.push(begun(&room, (64 << 10).min(room.free()), 0).await);
    }
    let (_client, reading) = begun(&room, 2, 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!reading.is_finished(), "nothing may be read yet");
    others.pop();
    drop(others);
    assert_eq!(reading.await.unwrap(), Ok(2));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(room.free(), all);
}
