//! What else than expected comes in at a listener, and an answer to it in its own language.
//!
//! A browser at a gRPC listener, a Kafka client, TLS where nobody speaks it, a client at the
//! listener of the brokers: each would see its connection closed, or bytes that it cannot read, and
//! look for the fault elsewhere. So the first bytes of a connection are looked at before anything
//! is said on it:
//!
//! 1. They are peeked at, once, when the first of them are there: what is expected is then read as
//!    if nothing had been. A connection that says nothing costs what it did before, and nobody
//!    waits for it.
//! 2. HTTP/1 at a gRPC listener is answered with a sentence. Kafka's protocol and TLS have no place
//!    for one: they are closed.
//! 3. Each kind is logged once a listener, with the remote address: who floods a listener floods no
//!    log.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// What HTTP/2 begins with, whichever way it is come by.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP1_METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
];
/// The longest request of Kafka's protocol that is taken for one, bytes, and the highest of its api
/// keys and versions, with room to grow.
const MAX_KAFKA_BYTES: u32 = 100 * 1024 * 1024;
const MAX_KAFKA_API: u16 = 100;
const MAX_KAFKA_VERSION: u16 = 40;

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    Grpc,
    /// HTTP/1 and HTTP/2.
    Http,
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http2,
    Http1,
    Tls,
    Kafka,
    Unknown,
}

impl Kind {
    /// Told by as many bytes as came first. Too few of them are taken for what they may become.
    fn of(first: &[u8]) -> Self {
        let begins = |with: &&[u8]| first.starts_with(with) || with.starts_with(first);
        match first {
            _ if HTTP2_PREFACE.starts_with(first) || first.starts_with(HTTP2_PREFACE) => Self::Http2,
            [0x16, 0x03, ..] => Self::Tls,
            [a, b, c, d, key_high, key_low, version_high, version_low, ..]
                if (8..=MAX_KAFKA_BYTES).contains(&u32::from_be_bytes([*a, *b, *c, *d]))
                    && u16::from_be_bytes([*key_high, *key_low]) <= MAX_KAFKA_API
                    && u16::from_be_bytes([*version_high, *version_low]) <= MAX_KAFKA_VERSION =>
            {
                Self::Kafka
            }
            _ if HTTP1_METHODS.iter().any(begins) => Self::Http1,
            _ => Self::Unknown,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Http2 => "HTTP/2",
            Self::Http1 => "HTTP/1",
            Self::Tls => "TLS",
            Self::Kafka => "Kafka's protocol",
            Self::Unknown => "an unknown protocol",
        }
    }
}

/// A listener, as it is told to who is at the wrong one.
#[derive(Debug)]
pub(super) struct Door {
    serves: Serves,
    /// "this is the peer listener of broker 2 …; clients use …".
    sentence: String,
    logged: [AtomicBool; 5],
}

impl Door {
    pub(super) fn new(serves: Serves, sentence: String) -> Arc<Self> {
        Arc::new(Self {
            serves,
            sentence,
            logged: Default::default(),
        })
    }

    /// The sentence by itself.
    pub(super) fn sentence(&self) -> &str {
        &self.sentence
    }

    const fn admits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Http2 => true,
            Kind::Http1 => matches!(self.serves, Serves::Http),
            Kind::Tls | Kind::Kafka | Kind::Unknown => false,
        }
    }

    /// Turns a connection away: logs its kind, the first time, and answers what can be told in its
    /// language.
    fn refuse(&self, kind: Kind, remote: Option<SocketAddr>) -> Vec<u8> {
        if !self.logged[kind as usize].swap(true, Ordering::Relaxed) {
            let remote = remote.map_or_else(|| "an unknown address".to_owned(), |remote| remote.to_string());
            tracing::warn!(
                remote,
                "a connection began with {}, and {}; further ones are not logged",
                kind.name(),
                self.sentence
            );
        }
        match kind {
            Kind::Http1 => self.http1_answer().into_bytes(),
            _ => Vec::new(),
        }
    }

    fn http1_answer(&self) -> String {
        let text = format!("{}\n", self.sentence);
        format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{text}",
            text.len()
        )
    }
}

/// A connection whose first bytes are looked at.
pub(super) struct Sniffed {
    io: TcpStream,
    state: State,
}

enum State {
    /// Nothing has been read or written.
    First(Arc<Door>),
    /// It is what the listener serves.
    Admitted,
    /// It is turned away with these bytes, of which so many were written.
    Refused { answer: Vec<u8>, written: usize },
}

impl fmt::Debug for Sniffed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sniffed")
            .field("io", &self.io)
            .finish_non_exhaustive()
    }
}

impl Sniffed {
    pub(super) fn new(io: TcpStream, door: Arc<Door>) -> Self {
        Self {
            io,
            state: State::First(door),
        }
    }

    /// Whether the connection is admitted; pending until its first bytes are there, and until it
    /// was told why it is not.
    fn poll_admitted(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let State::First(door) = &self.state {
            let mut room = [0; 24];
            let mut first = ReadBuf::new(&mut room);
            ready!(self.io.poll_peek(context, &mut first))?;
            let kind = Kind::of(first.filled());
            self.state = if door.admits(kind) {
                State::Admitted
            } else {
                State::Refused {
                    answer: door.refuse(kind, self.io.peer_addr().ok()),
                    written: 0,
                }
            };
        }
        match &mut self.state {
            State::First(_) | State::Admitted => Poll::Ready(Ok(true)),
            State::Refused { answer, written } => {
                while *written < answer.len() {
                    *written += ready!(Pin::new(&mut self.io).poll_write(context, &answer[*written..]))?;
                }
                Poll::Ready(Ok(false))
            }
        }
    }
}

impl AsyncRead for Sniffed {
    /// A connection that is turned away reads as ended.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.state, State::Admitted) || ready!(self.poll_admitted(context))? {
            return Pin::new(&mut self.io).poll_read(context, into);
        }
        // What it said is taken off, so that closing does not reset the connection before the
        // answer is read.
        let mut rest = [0; 1024];
        let mut rest = ReadBuf::new(&mut rest);
        let _ = Pin::new(&mut self.io).poll_read(context, &mut rest);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sniffed {
    /// A server of HTTP/2 writes before it reads: nothing goes out before it is known that it is
    /// understood.
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.state, State::Admitted) || ready!(self.poll_admitted(context))? {
            return Pin::new(&mut self.io).poll_write(context, bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.state, State::Admitted) || ready!(self.poll_admitted(context))? {
            return Pin::new(&mut self.io).poll_write_vectored(context, slices);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl Connected for Sniffed {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}

/// Connections of a listener of [`axum::serve()`], looked at likewise.
pub(super) struct SniffedListener {
    pub(super) socket: tokio::net::TcpListener,
    pub(super) door: Arc<Door>,
}

impl axum::serve::Listener for SniffedListener {
    type Io = Sniffed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Sniffed, SocketAddr) {
        // Its own accept waits out what may pass, such as too many open files.
        let (io, remote) = axum::serve::Listener::accept(&mut self.socket).await;
        (Sniffed::new(io, Arc::clone(&self.door)), remote)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const API_VERSIONS: &[u8] = b"\0\0\0\x16\0\x12\0\x03\0\0\0\x01\0\x07rdkafka\0\0\0\0\0";

    #[test]
    fn a_connection_is_known_by_its_first_bytes() {
        for (first, kind) in [
            (HTTP2_PREFACE, Kind::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12", Kind::Http2),
            // Not enough to turn anybody away, or nothing at all.
            (b"P", Kind::Http2),
            (b"", Kind::Http2),
            (b"GET / HTTP/1.1\r\n", Kind::Http1),
            (b"POST /tidelog.v1.Log/Fetch HTTP/1.1", Kind::Http1),
            (b"PU", Kind::Http1),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", Kind::Tls),
            (API_VERSIONS, Kind::Kafka),
            (b"\0\0\0\x12\0\x03\0\x09", Kind::Kafka),
            (b"\0\0\x12\x04\xff\xff\0\0", Kind::Unknown),
            (b"*1\r\n$4\r\nPING\r\n", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(first), kind, "{first:?}");
        }
    }

    /// What a client that says `said` reads of a server that writes before it reads, as one of
    /// HTTP/2 does.
    async fn conversation(serves: Serves, said: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (io, _) = listener.accept().await.unwrap();
        let mut server = Sniffed::new(io, Door::new(serves, "this is the peer listener".to_owned()));
        let served = async {
            let mut heard = Vec::new();
            server.write_all(b"settings").await.unwrap();
            server.read_to_end(&mut heard).await.unwrap();
            drop(server);
            heard
        };
        let asked = async {
            let mut read = Vec::new();
            client.write_all(said).await.unwrap();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut read).await.unwrap();
            read
        };
        tokio::join!(served, asked)
    }

    #[tokio::test]
    async fn what_is_served_passes_and_what_is_not_is_answered_as_far_as_it_can_be() {
        let (heard, read) = conversation(Serves::Grpc, HTTP2_PREFACE).await;
        assert_eq!(
            (heard.as_slice(), read.as_slice()),
            (HTTP2_PREFACE, &b"settings"[..])
        );
        let get = b"GET / HTTP/1.1\r\n\r\n";
        let (heard, read) = conversation(Serves::Http, get).await;
        assert_eq!((heard.as_slice(), read.as_slice()), (&get[..], &b"settings"[..]));

        let (heard, read) = conversation(Serves::Grpc, get).await;
        assert_eq!(heard, b"", "the server of gRPC does not see it");
        let read = String::from_utf8(read).unwrap();
        assert!(read.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{read}");
        assert!(read.ends_with("\r\n\r\nthis is the peer listener\n"), "{read}");
        for silent in [API_VERSIONS, b"\x16\x03\x01\x02\0\x01"] {
            for serves in [Serves::Grpc, Serves::Http] {
                assert_eq!(conversation(serves, silent).await, (Vec::new(), Vec::new()));
            }
        }
    }

    #[tokio::test]
    async fn a_kind_is_logged_once_a_listener() {
        let door = Door::new(Serves::Grpc, String::new());
        let logged = |door: &Door| {
            door.logged
                .iter()
                .filter(|logged| logged.load(Ordering::Relaxed))
                .count()
        };
        for _ in 0..3 {
            door.refuse(Kind::Kafka, None);
            door.refuse(Kind::Tls, None);
        }
        assert_eq!(logged(&door), 2);
    }
}
