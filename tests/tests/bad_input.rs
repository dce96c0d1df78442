//! What a user, a client or a mistaken deployment may do wrong: each is a clear line with the
//! remedy, and nothing is lost by it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tidelog_proto::v1;
use tidelog_proto::v1::log_client::LogClient;
use tidelog_record::{BatchBuilder, Compression, NewRecord};
use tidelog_tests::cluster::{Cluster, READY, binary};
use tidelog_tests::program::{Program, refused, stderr};
use tidelog_tests::{ports, wait};

const SMALL: &[&str] = &["--config", "max.message.bytes=2000"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_words_from_a_user_are_refused_and_the_rest_goes_on() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&[&["topic", "create", "small", "-p", "1"][..], SMALL].concat())?;

    let long = "x".repeat(3000);
    let output = program.run_with_input(&["produce", "small"], &format!("before\n{long}\nafter\n"))?;
    ensure!(output.status.code() == Some(1), "{}", stderr(&output));
    ensure!(
        stderr(&output).contains("MESSAGE_TOO_LARGE") && stderr(&output).contains("max.message.bytes"),
        "{}",
        stderr(&output)
    );
    let stored = program.ok(&["consume", "small", "--from", "beginning", "--until-end"])?;
    ensure!(!stored.contains(&long), "the oversized record was stored");

    let unknown = program.run_with_input(&["produce", "nope", "--timeout", "2"], "a\n")?;
    refused(
        &unknown,
        4,
        &["UNKNOWN_TOPIC_OR_PARTITION", "\"nope\"", "tidelog topic create"],
    )?;
    let unknown = program.run(&[
        "consume",
        "nope",
        "--from",
        "beginning",
        "--until-end",
        "--timeout",
        "2",
    ])?;
    refused(&unknown, 4, &["\"nope\""])?;
    refused(
        &program.run(&["topic", "create", "a/b"])?,
        1,
        &["INVALID_TOPIC_EXCEPTION", "a/b"],
    )?;
    refused(
        &program.run(&["topic", "create", "small"])?,
        1,
        &["TOPIC_ALREADY_EXISTS", "small"],
    )?;
    refused(
        &program.run(&["topic", "create", "b", "-r", "3"])?,
        1,
        &["INVALID_REPLICATION_FACTOR"],
    )?;
    refused(
        &program.run(&["topic", "create", "b", "--config", "segment.bytes=1"])?,
        1,
        &["INVALID_CONFIG", "segment.bytes"],
    )?;
    refused(
        &program.run(&["topic", "create", "b", "-p", "1000000"])?,
        1,
        &["INVALID_PARTITIONS"],
    )?;
    refused(
        &program.run(&["group", "describe", "nobody"])?,
        4,
        &["no group", "nobody", "tidelog group list"],
    )?;

    let output = program.run_with_input(&["produce", "small"], "still\n")?;
    ensure!(output.status.success(), "{}", stderr(&output));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_batch_is_refused_by_itself() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    Program::of(&cluster).ok(&["topic", "create", "t", "-p", "2"])?;
    let mut log = LogClient::connect(format!("http://{}", cluster.brokers()[0].client_address())).await?;

    let good = batch()?;
    let damaged = with(&good, |bytes| {
        *bytes.last_mut().expect("a batch is not empty") ^= 1;
    });
    // Record count and last offset delta say a thousand, in front of one record; or they contradict
    // each other.
    let boasting = with_counts(&good, 1000, 999);
    let lying = with_counts(&good, 1, 7);
    let truncated = good.slice(..good.len() - 1);
    let other_magic = with(&good, |bytes| bytes[16] = 1);
    for (bytes, code) in [
        (damaged, 2),
        (boasting, 2),
        (lying, 2),
        (truncated, 2),
        (other_magic, 2),
        (Bytes::new(), 2),
    ] {
        let request = v1::ProduceRequest {
            partitions: vec![produce(0, bytes), produce(1, good.clone())],
            ..Default::default()
        };
        let answer = log.produce(request).await?.into_inner();
        let error = answer.partitions[0].error.as_ref().context("it was taken")?;
        assert_eq!(error.code, code, "{}", error.message);
        assert_eq!(
            answer.partitions[1].error, None,
            "the other partition's batch is good"
        );
    }
    let request = v1::FetchRequest {
        partitions: vec![v1::PartitionFetch {
            topic: "t".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let fetched = log.fetch(request).await?.into_inner();
    assert!(
        fetched.partitions[0].batches.is_empty(),
        "nothing of it was stored"
    );
    Ok(())
}

/// The checksum is right, and what it is right for is no batch that anybody could read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_batch_is_refused_and_its_partition_stays_readable() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "t", "-p", "2"])?;
    let address = format!("http://{}", cluster.brokers()[0].client_address());
    let mut log = LogClient::connect(address).await?;

    let (good, packed) = (
        batch()?,
        compressed(1, b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")?,
    );
    let payload = |fill: u8| with(&good, |bytes| bytes[61..].fill(fill));
    let field = |good: &Bytes, at: usize, value: u8| with(good, |bytes| bytes[at] = value);
    let bomb = compressed(1, &vec![0; 40 << 20])?;
    let poison = [
        ("garbage", payload(0xa5), 87),
        ("zeros", payload(0), 87),
        ("an offset delta of 1", field(&good, 64, 2), 87),
        ("a key longer than the record", field(&good, 65, 60), 87),
        ("a timestamp that lies", field(&good, 42, 9), 87),
        ("plain bytes named gzip", field(&good, 22, 1), 87),
        ("zstd named lz4", field(&packed, 22, 3), 87),
        ("zstd without its magic number", field(&packed, 61, 0x55), 87),
        ("a bomb", bomb, 10),
        (
            "a producer id of -2",
            field_of(&good, 43, &(-2_i64).to_be_bytes()),
            87,
        ),
    ];
    let mut taken = 0;
    for (what, bytes, code) in poison {
        let request = v1::ProduceRequest {
            partitions: vec![produce(0, sealed(&bytes)), produce(1, good.clone())],
            ..Default::default()
        };
        let answer = log.produce(request).await?.into_inner();
        let error = answer.partitions[0]
            .error
            .as_ref()
            .with_context(|| format!("{what} was taken"))?;
        assert_eq!(error.code, code, "{what}: {}", error.message);
        assert_eq!(
            answer.partitions[1].error, None,
            "{what}: the other partition's batch is good"
        );
        taken += 1;
    }
    let request = v1::ProduceRequest {
        partitions: vec![produce(0, good), produce(0, packed)],
        ..Default::default()
    };
    for partition in log.produce(request).await?.into_inner().partitions {
        assert_eq!(partition.error, None);
    }
    let read = program.ok(&["consume", "t", "--from", "beginning", "--until-end"])?;
    assert_eq!(read.lines().count(), taken + 2, "{read}");
    Ok(())
}

/// A large compressed batch takes long to be walked; what was sent after it on the stream is
/// appended after it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_a_stream_keep_their_order_whatever_they_take_to_be_checked() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    Program::of(&cluster).ok(&["topic", "create", "t", "-p", "1"])?;
    let mut log = LogClient::connect(format!("http://{}", cluster.brokers()[0].client_address())).await?;

    let (large, small) = (compressed(1000, &vec![7; 30_000])?, batch()?);
    let requests: Vec<_> = [large.clone(), small.clone(), large, small]
        .into_iter()
        .zip(0..)
        .map(|(bytes, correlation_id)| v1::ProduceRequest {
            correlation_id,
            partitions: vec![produce(0, bytes)],
            ..Default::default()
        })
        .collect();
    let mut answers = log
        .produce_stream(tokio_stream::iter(requests))
        .await?
        .into_inner();
    let mut offsets = std::collections::BTreeMap::new();
    // It ends when everything is answered, since the client's half has ended.
    let told = async {
        while let Some(answer) = answers.message().await? {
            assert_eq!(answer.partitions[0].error, None);
            offsets.insert(answer.correlation_id, answer.partitions[0].base_offset);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(READY, told)
        .await
        .context("the stream does not end")??;
    let offsets: Vec<u64> = offsets.into_values().collect();
    assert_eq!(offsets, [0, 1000, 1001, 2001]);
    Ok(())
}

/// Producer fields out of their ranges are no producer's, and no reason to store a record twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_out_of_range_are_refused() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    Program::of(&cluster).ok(&["topic", "create", "t", "-p", "1"])?;
    let mut log = LogClient::connect(format!("http://{}", cluster.brokers()[0].client_address())).await?;
    let plain = async |producer_id, producer_epoch, base_sequence| -> Result<v1::PartitionProduced> {
        let records = v1::PlainRecords {
            records: vec![v1::Record::default()],
            producer: Some(v1::ProducerStamp {
                producer_id,
                producer_epoch,
                base_sequence,
            }),
        };
        let partition = v1::PartitionProduce {
            data: Some(v1::partition_produce::Data::Records(records)),
            ..produce(0, Bytes::new())
        };
        let request = v1::ProduceRequest {
            partitions: vec![partition],
            ..Default::default()
        };
        let answer = log.clone().produce(request).await?.into_inner();
        answer.partitions.into_iter().next().context("no answer")
    };
    for (id, epoch, sequence) in [
        (u64::MAX, 0, 0),
        (1 << 63, 0, 0),
        (1, 1 << 15, 0),
        (1, 0, 1 << 31),
    ] {
        for _ in 0..2 {
            let error = plain(id, epoch, sequence).await?.error.context("it was taken")?;
            assert_eq!(error.code, 87, "{}", error.message);
            ensure!(error.message.contains("InitProducer"), "{}", error.message);
        }
    }
    let mut ask = async |producer_id, producer_epoch| -> Result<v1::InitProducerResponse> {
        let request = v1::InitProducerRequest {
            producer_id,
            producer_epoch,
        };
        Ok(log.init_producer(request).await?.into_inner())
    };
    let given = ask(None, None).await?;
    let raised = ask(Some(given.producer_id), Some(given.producer_epoch)).await?;
    assert_eq!(
        (raised.producer_id, raised.producer_epoch),
        (given.producer_id, 1)
    );
    for (id, epoch) in [(u64::MAX, 0), (1 << 40, 0), (given.producer_id, 1 << 15)] {
        let answer = ask(Some(id), Some(epoch)).await?;
        ensure!(answer.error.is_some(), "id {id}, epoch {epoch} were raised");
    }
    Ok(())
}

/// A zstd batch of as many records of this value.
fn compressed(records: usize, value: &[u8]) -> Result<Bytes> {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for _ in 0..records {
        builder.append(NewRecord::new(1, None, Some(value)))?;
    }
    Ok(builder.build(None)?.into_bytes())
}

/// The same bytes with the checksum that fits them.
fn sealed(bytes: &Bytes) -> Bytes {
    with(bytes, |bytes| {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    })
}

fn field_of(bytes: &Bytes, at: usize, value: &[u8]) -> Bytes {
    with(bytes, |bytes| bytes[at..at + value.len()].copy_from_slice(value))
}

fn batch() -> Result<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(NewRecord::new(1, Some(b"key"), Some(b"value")))?;
    Ok(builder.build(None)?.into_bytes())
}

fn with(bytes: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut changed = bytes.to_vec();
    change(&mut changed);
    changed.into()
}

/// The same batch with other counts and the checksum that fits them.
fn with_counts(bytes: &Bytes, records: i32, last_offset_delta: i32) -> Bytes {
    let changed = with(bytes, |bytes| {
        bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&records.to_be_bytes());
    });
    sealed(&changed)
}

fn produce(partition: u32, batch: Bytes) -> v1::PartitionProduce {
    v1::PartitionProduce {
        topic: "t".to_owned(),
        partition,
        data: Some(v1::partition_produce::Data::Batch(batch)),
        ..Default::default()
    }
}

/// A broker's command line with some of it exchanged.
struct Server<'a> {
    id: &'a str,
    data_dir: &'a Path,
    cluster: &'a str,
    listen: &'a str,
    peer: &'a str,
}

impl Server<'_> {
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .args(["server", "--node-id", self.id, "--cluster", self.cluster])
            .arg("--data-dir")
            .arg(self.data_dir)
            .args(["--listen", self.listen, "--peer-listen", self.peer])
            .args(["--http-listen", "127.0.0.1:0", "--log", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Starts it and waits for its end, which must come by itself.
    async fn ends(&self) -> Result<Output> {
        let mut child = self.command()?.spawn()?;
        let ended = wait::until("the broker to refuse", READY, async || {
            child.try_wait()?.context("it still runs")
        })
        .await;
        if ended.is_err() {
            child.kill()?;
        }
        let output = child.wait_with_output()?;
        ended?;
        Ok(output)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_cannot_be_what_it_is_told_refuses_with_the_remedy() -> Result<()> {
    let mut ours = Cluster::start(3).await?;
    let mut theirs = Cluster::start(3).await?;
    for cluster in [&mut ours, &mut theirs] {
        cluster.broker(3).stop().await?;
    }
    let voters: Vec<String> = ours
        .brokers()
        .iter()
        .map(|broker| format!("{}={}", broker.id, broker.peer_address()))
        .collect();
    let voters = voters.join(",");
    let [one, three] = [&ours.brokers()[0], &ours.brokers()[2]];
    let (listen, peer) = (three.client_address(), three.peer_address());
    let right = Server {
        id: "3",
        data_dir: three.data_dir(),
        cluster: &voters,
        listen: &listen,
        peer: &peer,
    };

    let taken = one.client_address();
    let output = Server {
        listen: &taken,
        ..right
    }
    .ends()
    .await?;
    refused(&output, 1, &["cannot listen", &taken])?;
    let output = Server {
        data_dir: one.data_dir(),
        ..right
    }
    .ends()
    .await?;
    refused(&output, 1, &["in use by another process"])?;
    let spare = ports::reserve()?;
    let other_peer = format!("127.0.0.1:{}", spare.get());
    let with_four = format!("{voters},4={other_peer}");
    let output = Server {
        id: "4",
        cluster: &with_four,
        peer: &other_peer,
        ..right
    }
    .ends()
    .await?;
    refused(&output, 1, &["belongs to broker 3, not 4"])?;
    let stranger = theirs.brokers()[2].data_dir();
    let output = Server {
        data_dir: stranger,
        ..right
    }
    .ends()
    .await?;
    refused(&output, 1, &["another cluster", "--cluster"])?;

    // None of it did any harm: the directory is as good as before.
    ours.broker(3).start()?;
    ours.broker(3).wait_ready(Duration::from_secs(30)).await
}
