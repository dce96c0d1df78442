//! What the order service publishes. The same in a `.proto` file, for services in other languages:
//!
//! ```text
//! syntax = "proto3";
//! message OrderPlaced { uint64 order_id = 1; string customer = 2; repeated OrderLine lines = 3; }
//! message OrderLine   { string sku = 1; uint32 quantity = 2; uint64 unit_price_cents = 3; }
//! ```

/// A customer ordered something.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OrderPlaced {
    /// Unique: what a reader knows a repeated delivery by.
    #[prost(uint64, tag = "1")]
    pub(crate) order_id: u64,
    /// Who. The record's key too, so that one customer's orders stay in order.
    #[prost(string, tag = "2")]
    pub(crate) customer: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) lines: Vec<OrderLine>,
}

/// Some of one article.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OrderLine {
    #[prost(string, tag = "1")]
    pub(crate) sku: String,
    #[prost(uint32, tag = "2")]
    pub(crate) quantity: u32,
    /// The price of one, in cents.
    #[prost(uint64, tag = "3")]
    pub(crate) unit_price_cents: u64,
}

impl OrderPlaced {
    /// What the customer pays, in cents.
    pub(crate) fn total_cents(&self) -> u64 {
        self.lines
            .iter()
            .map(|line| u64::from(line.quantity) * line.unit_price_cents)
            .sum()
    }
}
