//! Services that do not wait for each other: an order service publishes `OrderPlaced`, and
//! inventory, payment and shipping each read it at their own pace, each a consumer group of its
//! own.
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
//! cargo run --release -p tidelog-client --example order_service -- 127.0.0.1:7171
//! ```
//!
//! It creates the topic `order-service-orders` (or the one that is named behind the address),
//! plays, prints what each service did, checks that every order had its effect in every service
//! exactly once, and removes the topic and the three groups again.
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

use tidelog_client::{Admin, Client, ErrorCode, NewTopic};

use database::Database;
use orders::ORDERS;
use service::{Service, Share};

/// Where orders are published, unless another name is given.
const TOPIC: &str = "order-service-orders";
/// The services that read them.
const SERVICES: [&str; 3] = ["inventory", "payment", "shipping"];
/// What the program takes.
const USAGE: &str = "usage: order_service [HOST:PORT [TOPIC]]   (127.0.0.1:7171 order-service-orders)";
/// Enough that payment can be shared by three, and by six one day.
const PARTITIONS: u32 = 6;
/// How long everything may take to be read after the last order.
const CAUGHT_UP_WITHIN: Duration = Duration::from_mins(1);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.len() > 2 || words.iter().any(|word| word.starts_with('-')) {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let bootstrap = words.first().map_or("127.0.0.1:7171", String::as_str);
    let topic = words.get(1).map_or(TOPIC, String::as_str);
    match play(bootstrap, topic).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("order_service: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(bootstrap: &str, topic: &str) -> Result<bool> {
    let client = Client::builder([bootstrap])
        .client_id("order-service")
        .connect()
        .await?;
    create(&client.admin(), topic).await?;
    let outcome = services(&client, topic).await;
    clean_up(&client.admin(), topic).await;
    outcome
}

async fn create(admin: &Admin, topic: &str) -> Result<()> {
    let created = admin
        .create_topic(NewTopic::new(topic).partitions(PARTITIONS))
        .await;
    match created {
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => Err(format!(
            "topic {topic} exists already, and may be somebody's: name another one behind the address, or remove it with \
             `tidelog topic delete {topic}`"
        )
        .into()),
        other => Ok(other.map(drop)?),
    }
}

/// Leaves the cluster as it was. What cannot be removed is named.
async fn clean_up(admin: &Admin, topic: &str) {
    for service in SERVICES {
        match admin.delete_group(&group(topic, service)).await {
            Err(error) if error.code() != Some(ErrorCode::GroupIdNotFound) => {
                eprintln!("group {} is left behind: {error}", group(topic, service));
            }
            _ => {}
        }
    }
    if let Err(error) = admin.delete_topic(topic).await {
        eprintln!("topic {topic} is left behind: {error}");
    }
}

/// The group of a service: two plays on two topics do not share members.
fn group(topic: &str, service: &str) -> String {
    format!("{topic}-{service}")
}

/// The play itself: whether everything came out right.
async fn services(client: &Client, topic: &str) -> Result<bool> {
    let databases = SERVICES.map(|name| Arc::new(Database::new(name)));
    let [inventory, payment, shipping] = &databases;
    let inventory = Service::new(client, topic, inventory, service::reserve);
    let payment = Service::new(client, topic, payment, service::charge);
    let shipping = Service::new(client, topic, shipping, service::ship).with_fixed_members();

    let mut members = vec![
        inventory.start("inventory-1").await?,
        payment.start("payment-1").await?,
    ];
    let first_life = shipping.start("shipping-1").await?;
    let publishing = tokio::spawn(orders::publish(client.clone(), topic.to_owned()));

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
