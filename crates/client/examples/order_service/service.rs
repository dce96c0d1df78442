//! A service that reads orders: the loop that every consumer has.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tidelog_client::{Client, ConsumedRecord, Consumer, OffsetReset};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::events::OrderPlaced;
use crate::{Result, group};

/// How often what is worked off is committed. Rarer means fewer writes, and more that is delivered
/// again after a crash.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// How long finishing, committing and leaving may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// What a service does with an order: the text is what it writes into its database.
type Handler = fn(&OrderPlaced) -> String;

/// A service: the topic that it reads, its database, and what it does.
pub(crate) struct Service {
    client: Client,
    topic: String,
    database: Arc<Database>,
    handler: Handler,
    has_fixed_members: bool,
}

/// One process of a service.
pub(crate) struct Member {
    name: String,
    stop: CancellationToken,
    task: JoinHandle<Result<u64>>,
}

/// What a member came to.
pub(crate) struct Share {
    pub(crate) member: String,
    pub(crate) records: u64,
}

impl Service {
    pub(crate) fn new(client: &Client, topic: &str, database: &Arc<Database>, handler: Handler) -> Self {
        Self {
            client: client.clone(),
            topic: topic.to_owned(),
            database: Arc::clone(database),
            handler,
            has_fixed_members: false,
        }
    }

    /// Members have names that outlive their processes: one that is restarted takes its partitions
    /// back at once, and nobody else notices. Without that, the partitions of one that was killed
    /// go to the others when its session ends.
    pub(crate) fn with_fixed_members(mut self) -> Self {
        self.has_fixed_members = true;
        self
    }

    /// Starts one more process of the service. All of one group share the topic's partitions.
    pub(crate) async fn start(&self, name: &str) -> Result<Member> {
        let mut settings = self
            .client
            .group(group(&self.topic, self.database.name()))
            .topics([&self.topic])
            // A service that is new begins with the first order there is.
            .auto_offset_reset(OffsetReset::Earliest)
            // Commits what is *marked*, never what was only read.
            .auto_commit_interval(COMMIT_EVERY);
        if self.has_fixed_members {
            settings = settings.instance_id(name);
        }
        let consumer = settings.build().await?;
        let stop = CancellationToken::new();
        let task = work(consumer, Arc::clone(&self.database), self.handler, stop.clone());
        Ok(Member {
            name: name.to_owned(),
            stop,
            task: tokio::spawn(task),
        })
    }
}

impl Member {
    /// An orderly stop for good: what is worked off is committed, nothing is delivered again, and
    /// the name of a fixed member is given up.
    pub(crate) async fn stop(self) -> Result<Share> {
        self.stop.cancel();
        let records = self.task.await??;
        Ok(Share {
            member: self.name,
            records,
        })
    }

    /// As SIGKILL does it: no farewell, no commit.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // Ends with the abortion, which is no failure here.
        let _ = self.task.await;
    }
}

async fn work(
    mut consumer: Consumer,
    database: Arc<Database>,
    handler: Handler,
    stop: CancellationToken,
) -> Result<u64> {
    let mut records = 0;
    while let Some(record) = stop.run_until_cancelled(consumer.recv()).await {
        let record = record?;
        let order = decode(&record)?;
        database.apply(order.order_id, || handler(&order));
        // Only now: an order that is marked is not delivered again once that is committed.
        consumer.mark(&record);
        records += 1;
    }
    consumer.leave(CLOSE_WITHIN).await?;
    Ok(records)
}

fn decode(record: &ConsumedRecord) -> Result<OrderPlaced> {
    let value = record.value.clone().unwrap_or_default();
    OrderPlaced::decode(value).map_err(|error| {
        let at = format!("{}@{}", record.topic_partition(), record.offset);
        format!("{at} is no OrderPlaced: {error}").into()
    })
}

/// Inventory: puts the articles aside.
pub(crate) fn reserve(order: &OrderPlaced) -> String {
    let lines = order
        .lines
        .iter()
        .map(|line| format!("{} × {}", line.quantity, line.sku));
    format!("reserved {}", lines.collect::<Vec<_>>().join(", "))
}

/// Payment: charges the customer.
pub(crate) fn charge(order: &OrderPlaced) -> String {
    format!("charged {} with {} cents", order.customer, order.total_cents())
}

/// Shipping: sends a parcel.
pub(crate) fn ship(order: &OrderPlaced) -> String {
    format!("a parcel of {} lines to {}", order.lines.len(), order.customer)
}
