//! Brokers that cannot be reached: what the log says, and what errors do.

use std::io::Write;
use std::sync::Mutex;

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::Record;
use crate::consumer::testing::batch;
use crate::wire::fake_consumer::FakeCluster;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// The log of this thread, and so of everything on its runtime.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self, about: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| line.contains(about))
            .map(str::to_owned)
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Two brokers, of which the second leads and advertises where nobody listens.
async fn led_from_nowhere() -> FakeCluster {
    let cluster = FakeCluster::start(2).await;
    cluster.topic("t", 1);
    cluster.append("t", 0, batch(0, 1));
    cluster.change("t", 0, |known| known.leader = 2);
    cluster
}

#[tokio::test]
async fn an_advertised_address_that_cannot_be_used_is_told_once_and_that_it_can_be_again() {
    let (log, _guard) = Log::capture();
    let cluster = led_from_nowhere().await;
    let right = cluster.address(2);
    cluster.advertise(2, NOWHERE);
    let client = Client::builder([cluster.address(1)]).connect().await.unwrap();
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    let waiting = consumer.recv();
    tokio::pin!(waiting);
    tokio::select! {
        record = &mut waiting => panic!("{record:?} from nowhere"),
        () = until(|| !log.lines("broker 2").is_empty()) => {}
    }
    let [line] = log.lines("broker 2").try_into().unwrap();
    for what in [NOWHERE, "the address that it advertises", "Connection refused"] {
        assert!(line.contains(what), "no {what:?} in {line}");
    }
    // What keeps failing is told no more.
    tokio::select! {
        record = &mut waiting => panic!("{record:?} from nowhere"),
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    assert_eq!(log.lines(NOWHERE).len(), 1, "{:?}", log.lines(NOWHERE));
    cluster.advertise(2, &right);
    client.inner.metadata.request_refresh();
    assert_eq!(within(waiting).await.unwrap().offset, 0);
}

#[tokio::test]
async fn what_was_not_delivered_in_time_names_the_address_and_the_cause() {
    let cluster = led_from_nowhere().await;
    cluster.advertise(2, NOWHERE);
    let client = Client::builder([cluster.address(1)]).connect().await.unwrap();
    let producer = client
        .producer()
        .enable_idempotence(false)
        .delivery_timeout(Duration::from_millis(700))
        .request_timeout(Duration::from_millis(500))
        .build()
        .await
        .unwrap();
    let error = within(producer.send(Record::to("t").value("x")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    for what in [NOWHERE, "Log.ProduceStream", "Connection refused", "t-0"] {
        assert!(error.message().contains(what), "no {what:?} in {error}");
    }
}

#[tokio::test]
async fn a_call_that_is_not_answered_names_itself_and_the_address() {
    // It takes connections, and says nothing.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let client = Client::builder([address.as_str(), NOWHERE]);
    let error = client
        .connect_timeout(Duration::from_secs(3))
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains(NOWHERE), "{text}");
    assert!(text.contains("Admin.Metadata at "), "{text}");
    assert!(
        text.contains("no answer within 2.0 s") || text.contains("Connection refused"),
        "{text}"
    );
    assert!(!text.contains("--"), "a library knows no command line: {text}");
}

/// Connections of a broker that runs here end with it, as with a process.
fn process() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_loop_that_only_logs_waits_while_all_brokers_are_gone() {
    let (log, _guard) = Log::capture();
    let process = process();
    let cluster = process.spawn(FakeCluster::start(1)).await.unwrap();
    cluster.topic("t", 1);
    cluster.append("t", 0, batch(0, 1));
    let client = cluster.client().await;
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(offsets(&mut consumer, 1).await, [0]);
    process.shutdown_background();
    let lasts = Duration::from_secs(3);
    let mut lines = Vec::new();
    let obvious_loop = async {
        loop {
            lines.extend(consumer.recv().await.err());
        }
    };
    let _ = tokio::time::timeout(lasts, obvious_loop).await;
    assert!(lines.len() <= 10, "{} lines in {lasts:?}: {lines:?}", lines.len());
    let told = log.lines(&cluster.address(1));
    assert!((1..=2).contains(&told.len()), "{told:?}");
}

#[tokio::test]
async fn a_broker_that_comes_back_is_told_once() {
    let (log, _guard) = Log::capture();
    let process = process();
    let cluster = process.spawn(FakeCluster::start(1)).await.unwrap();
    let client = cluster.client().await;
    let address = cluster.address(1);
    process.shutdown_background();
    until(|| {
        client.inner.metadata.request_refresh();
        !log.lines("does not answer any more").is_empty()
    })
    .await;
    let _again = FakeCluster::start_at(&address).await;
    until(|| !log.lines("broker 1 answers at").is_empty()).await;
    assert_eq!(log.lines(&address).len(), 2, "{:?}", log.lines(&address));
}

/// Once a minute, so the clock is made to pass by itself while nothing else happens.
#[tokio::test]
async fn a_member_that_has_no_stream_for_a_minute_says_so() {
    let (log, _guard) = Log::capture();
    let process = process();
    let mut cluster = process.spawn(FakeCluster::start(1)).await.unwrap();
    cluster.topic("t", 1);
    let client = cluster.client().await;
    let builder = client.group("inventory").topics(["t"]);
    let (consumer, session) = tokio::join!(within(builder.build()), within(cluster.admit(&[("t", 0)])));
    let _consumer = consumer.unwrap();
    session.keep_alive();
    process.shutdown_background();
    tokio::time::pause();
    let about = "the member of group inventory has had no stream to its coordinator for";
    let told = async {
        while log.lines(about).is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(5), told).await.unwrap();
    let line = &log.lines(about)[0];
    assert!(line.contains("it goes on trying"), "{line}");
}
