//! The order service: it publishes what happened, and waits for nobody who cares.

use std::time::Duration;

use prost::Message;
use tidelog_client::{Client, Record};

use crate::Result;
use crate::events::{OrderLine, OrderPlaced};

/// How many orders come in.
pub(crate) const ORDERS: u64 = 3_000;
/// Between two of them.
const PACE: Duration = Duration::from_millis(2);
/// How many customers there are.
const CUSTOMERS: u64 = 97;

/// Publishes all orders; each is on stable storage of enough brokers before it counts. Says how
/// many there were.
pub(crate) async fn publish(client: Client, topic: String) -> Result<u64> {
    let producer = client.producer().build().await?;
    let mut pace = tokio::time::interval(PACE);
    let mut deliveries = Vec::new();
    for order_id in 1..=ORDERS {
        pace.tick().await;
        let order = order(order_id);
        let record = Record::to(topic.as_str())
            .key(order.customer.clone())
            .value(order.encode_to_vec())
            .header("type", "OrderPlaced");
        // Waits only where the client's buffer is full. The broker's word comes later.
        deliveries.push(producer.enqueue(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close(Duration::from_secs(10)).await?;
    Ok(ORDERS)
}

fn order(order_id: u64) -> OrderPlaced {
    let line = |index: u64| OrderLine {
        sku: format!("sku-{}", (order_id * 7 + index) % 50),
        quantity: 1 + (order_id % 3) as u32,
        unit_price_cents: 250 + 10 * (order_id % 40),
    };
    OrderPlaced {
        order_id,
        customer: format!("customer-{}", order_id % CUSTOMERS),
        lines: (0..=order_id % 2).map(line).collect(),
    }
}
