//! The topic that a benchmark writes to: made if there is none, and not left behind in silence.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tidelog_client::{Client, ErrorCode, NewTopic};

use super::CommonFlags;
use crate::tell;

/// What a topic gets that is created here.
#[derive(Debug, Args)]
pub(super) struct TopicFlags {
    /// How many partitions the topic gets if it is created
    #[arg(short, long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// How many replicas each gets; by default 3, or as many as there are brokers
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    replication_factor: Option<u32>,
    /// Size of a record's value, bytes; incompressible
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) record_size: u32,
    /// Keep the topic if it was created here, e.g. for `bench consume`; else it is deleted at the
    /// end
    #[arg(long)]
    keep: bool,
}

/// The topic of a run.
pub(super) struct BenchTopic {
    client: Client,
    name: String,
    /// Whether it was made here.
    created: bool,
    keep: bool,
}

impl BenchTopic {
    /// Creates the topic unless it is there.
    pub(super) async fn ensure(client: &Client, common: &CommonFlags, flags: &TopicFlags) -> Result<Self> {
        let mut new = NewTopic::new(&common.topic).partitions(flags.partitions);
        if let Some(replicas) = flags.replication_factor {
            new = new.replication_factor(replicas);
        }
        let admin = client.admin().timeout(common.connect.timeout());
        let created = match admin.create_topic(new).await {
            Ok(_) => true,
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            client: client.clone(),
            name: common.topic.clone(),
            created,
            keep: flags.keep,
        })
    }

    /// Deletes what was made here; says what is left, of `bytes` that were stored in each replica.
    pub(super) async fn leave(self, bytes: u64, within: Duration) {
        let name = &self.name;
        let left = bytesize::ByteSize::b(bytes);
        if !self.created || self.keep {
            tell!(
                "tidelog: {left} are left in topic {name}, in each replica; `tidelog topic delete {name}` removes it"
            );
            return;
        }
        let admin = self.client.admin().timeout(within);
        match admin.delete_topic(name).await {
            Ok(()) => tell!(
                "tidelog: topic {name}, which was made for this, is deleted with its {left}; --keep keeps it"
            ),
            Err(error) => tell!(
                "tidelog: topic {name} is left behind, with {left} in each replica: {error}; `tidelog topic delete {name}` removes it"
            ),
        }
    }
}
