//! Which rows were acknowledged, and how often each was stored and delivered: what "nothing lost,
//! nothing twice" is counted with.

use std::collections::HashMap;

/// A position in a topic.
pub type Position = (u32, u64);

/// Counts rows. A row is known by its number, which travels in the record's `row` header.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: HashMap<u64, Position>,
    stored: HashMap<u64, Vec<Position>>,
    deliveries: HashMap<Position, u32>,
}

/// Counts of what the ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Rows whose produce was acknowledged.
    pub acknowledged: usize,
    /// Distinct rows that were read.
    pub read: usize,
    /// Rows found at more than one offset.
    pub stored_twice: usize,
    /// Records handed over again.
    pub delivered_again: usize,
    /// Acknowledged rows that no reader saw, or saw elsewhere than where they were acknowledged.
    pub lost: usize,
}

impl Ledger {
    /// Notes an acknowledgement.
    pub fn acknowledge(&mut self, row: u64, position: Position) {
        self.acknowledged.insert(row, position);
    }

    /// Notes that a record was handed to a reader.
    pub fn deliver(&mut self, row: u64, position: Position) {
        let deliveries = self.deliveries.entry(position).or_default();
        *deliveries += 1;
        if *deliveries == 1 {
            self.stored.entry(row).or_default().push(position);
        }
    }

    /// How many distinct rows were read so far.
    pub fn rows_read(&self) -> usize {
        self.stored.len()
    }

    /// How many rows were acknowledged so far.
    pub fn rows_acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Adds up what the ledger holds.
    pub fn sums(&self) -> Sums {
        let found = |row: &u64, position: &Position| {
            self.stored
                .get(row)
                .is_some_and(|positions| positions.contains(position))
        };
        Sums {
            acknowledged: self.acknowledged.len(),
            read: self.stored.len(),
            stored_twice: self
                .stored
                .values()
                .filter(|positions| positions.len() > 1)
                .count(),
            delivered_again: self.deliveries.values().map(|times| *times as usize - 1).sum(),
            lost: self
                .acknowledged
                .iter()
                .filter(|(row, position)| !found(row, position))
                .count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_a_doubled_and_a_redelivered_row_are_told_apart() {
        let mut ledger = Ledger::default();
        for row in 0..4 {
            ledger.acknowledge(row, (0, row));
        }
        ledger.deliver(0, (0, 0));
        ledger.deliver(0, (0, 0));
        ledger.deliver(1, (0, 1));
        ledger.deliver(1, (0, 9));
        ledger.deliver(2, (1, 2));
        let sums = ledger.sums();
        // Row 2 was read, but not where it was acknowledged; row 3 never.
        let expected = Sums {
            acknowledged: 4,
            read: 3,
            stored_twice: 1,
            delivered_again: 1,
            lost: 2,
        };
        assert_eq!(sums, expected);
    }
}
