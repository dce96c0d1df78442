//! Walking the records of produced batches before they are stored, without holding up anybody else.
//!
//! A walk is a matter of microseconds for what producers usually send, and takes place where the
//! request is. What is larger is walked in steps between which other tasks have their turn, and
//! only so many of those at a time: each may hold up to [`tidelog_record::DEFAULT_OPENED_BYTES`] of
//! a compressed batch. A stream's requests wait for each other, so its batches keep their order.

use tidelog_record::{Batch, Checked};
use tidelog_types::PartitionError;
use tokio::sync::Semaphore;

/// Bytes of records, as they are when opened, that are walked at a time: well below a millisecond
/// of work.
const STEP_BYTES: usize = 256 * 1024;
/// Batches of more than a step that are walked at the same time.
const MAX_LARGE_AT_ONCE: usize = 4;

/// The walks of one broker.
#[derive(Debug)]
pub(super) struct Arrivals {
    large: Semaphore,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            large: Semaphore::new(MAX_LARGE_AT_ONCE),
        }
    }
}

impl Arrivals {
    /// Whether every record of the batch can be read, and its header does not lie about them.
    pub(super) async fn check(&self, batch: &Batch) -> Result<(), PartitionError> {
        let mut check = batch.record_check()?;
        if check.step(STEP_BYTES)? == Checked::All {
            return Ok(());
        }
        let _turn = self.large.acquire().await;
        while check.step(STEP_BYTES)? == Checked::Part {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidelog_record::{BatchBuilder, Compression, NewRecord};
    use tidelog_types::ErrorCode;

    use super::*;

    fn batch(value_bytes: usize, count: usize) -> Batch {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for _ in 0..count {
            builder
                .append(NewRecord::new(1, None, Some(&vec![0; value_bytes])))
                .unwrap();
        }
        builder.build(None).unwrap()
    }

    #[tokio::test]
    async fn others_have_their_turn_while_a_large_batch_is_walked() {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let arrivals = Arrivals::default();
        arrivals.check(&batch(1000, 20)).await.unwrap();
        assert_eq!(turns.load(Ordering::Relaxed), 0, "a small one is walked at once");
        arrivals.check(&batch(100_000, 100)).await.unwrap();
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns > 20, "{turns} turns during 10 MB");
        other.abort();
    }

    #[tokio::test]
    async fn a_bomb_is_refused_and_gives_its_turn_back() {
        let arrivals = Arrivals::default();
        for _ in 0..=MAX_LARGE_AT_ONCE {
            let error = arrivals.check(&batch(40_000_000, 1)).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::MessageTooLarge);
        }
        assert_eq!(arrivals.large.available_permits(), MAX_LARGE_AT_ONCE);
    }
}
