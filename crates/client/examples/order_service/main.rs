//! Services that do not wait for each other: an order service publishes `OrderPlaced`, and inventory, payment and shipping each read
//! it at their own pace, each a consumer group of its own.
//!
//! ```text
//!                          ┌─► inventory   one member
//! orders ──► OrderPlaced ──┼─► payment     one member, then three
//!           (6 partitions) └─► shipping    one member, killed half way and started again
//! ```
//!
//! Start brokers, then run it:
//!
//! ```text
//! tidelog dev --brokers 3
//! cargo run -p tidelog-client --example order_service -- 127.0.0.1:7171
//! ```
//!
//! It creates the topic `orders`, plays, prints what each service did, checks that every order had its effect in every service exactly
//! once, and deletes the topic again.
//!
//! - [`events`]: what is published, in Protobuf
//! - [`orders`]: the service that publishes
//! - [`service`]: the three that read
//! - [`database`]: where each keeps what it did, and why delivery "at least once" is enough

mod database;
mod events;
mod orders;
mod service;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidelog_client::{Client, NewTopic};

use database::Database;
use orders::ORDERS;
use service::{Service, Share};

/// Where orders are published.
const TOPIC: &str = "orders";
/// Enough that payment can be shared by three, and by six one day.
const PARTITIONS: u32 = 6;
/// How long everything may take to be read after the last order.
const CAUGHT_UP_WITHIN: Duration = Duration::from_mins(1);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let bootstrap = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    match play(&bootstrap).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("order_service: {error}");
            ExitCode::from(2)
        }
    }
}

async fn play(bootstrap: &str) -> Result<bool> {
    let client = Client::builder([bootstrap])
        .client_id("order-service")
        .connect()
        .await?;
    let admin = client.admin();
    admin
        .create_topic(NewTopic::new(TOPIC).partitions(PARTITIONS))
        .await?;
    let outcome = services(&client).await;
    if let Err(error) = admin.delete_topic(TOPIC).await {
        eprintln!("topic {TOPIC} is left behind: {error}");
    }
    outcome
}

/// The play itself: whether everything came out right.
async fn services(client: &Client) -> Result<bool> {
    let databases = ["inventory", "payment", "shipping"].map(|name| Arc::new(Database::new(name)));
    let [inventory, payment, shipping] = &databases;
    let inventory = Service::new(client, "inventory", inventory, service::reserve);
    let payment = Service::new(client, "payment", payment, service::charge);
    let shipping = Service::new(client, "shipping", shipping, service::ship).with_fixed_members();

    let mut members = vec![
        inventory.start("inventory-1").await?,
        payment.start("payment-1").await?,
    ];
    let first_life = shipping.start("shipping-1").await?;
    let publishing = tokio::spawn(orders::publish(client.clone()));

    until(&databases, "a third of the orders", ORDERS / 3).await?;
    println!("payment is scaled from one member to three");
    members.push(payment.start("payment-2").await?);
    members.push(payment.start("payment-3").await?);

    until(&databases[2..], "half of the orders", ORDERS / 2).await?;
    println!("shipping is killed, in the middle of its work, and started again");
    first_life.kill().await;
    members.push(shipping.start("shipping-1").await?);

    let published = publishing.await??;
    println!("{published} orders are published");
    until(&databases, "all orders", ORDERS).await?;
    let mut shares = Vec::new();
    for member in members {
        shares.push(member.stop().await?);
    }
    Ok(report(&databases, &shares, published))
}

/// Waits until each of these services has worked off so many orders.
async fn until(databases: &[Arc<Database>], what: &str, orders: u64) -> Result<()> {
    let worked_off = async {
        for database in databases {
            database.has(orders).await;
        }
    };
    tokio::time::timeout(CAUGHT_UP_WITHIN, worked_off)
        .await
        .map_err(|_| {
            format!(
                "not every service worked off {what} in {} s",
                CAUGHT_UP_WITHIN.as_secs()
            )
            .into()
        })
}

fn report(databases: &[Arc<Database>], shares: &[Share], published: u64) -> bool {
    println!("\n{:<12} {:>8} {:>14}", "service", "orders", "delivered again");
    let mut is_right = true;
    for database in databases {
        let (orders, again) = database.figures();
        println!("{:<12} {orders:>8} {again:>14}", database.name());
        is_right &= orders == published;
    }
    for share in shares {
        println!("{} was handed {} records", share.member, share.records);
    }
    if is_right {
        println!("every order had its effect in every service exactly once");
    } else {
        println!("WRONG: some service lacks orders");
    }
    is_right
}
