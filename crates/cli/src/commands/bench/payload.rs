//! Values that no codec and no disk makes smaller.

use bytes::Bytes;

/// How much random data values are cut from, bytes.
const POOL_BYTES: usize = 4 * 1024 * 1024;

/// A pool of random bytes. Values overlap, which nothing on their way looks for.
pub(super) struct Payload {
    pool: Bytes,
    size: usize,
    next: usize,
}

impl Payload {
    /// For values of a size, bytes.
    pub(super) fn new(size: u32) -> Self {
        let size = size as usize;
        // xorshift64*: statistics of this quality are all that "incompressible" asks for.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pool = Vec::with_capacity(POOL_BYTES + size);
        while pool.len() < POOL_BYTES + size {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            pool.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        Self {
            pool: pool.into(),
            size,
            next: 0,
        }
    }

    /// The next value; no copy.
    pub(super) fn next(&mut self) -> Bytes {
        let value = self.pool.slice(self.next..self.next + self.size);
        // A step that shares no factor with the pool's size, so that values differ for a long time.
        self.next = (self.next + 4099) % POOL_BYTES;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_and_do_not_compress() {
        let mut payload = Payload::new(1024);
        let values: std::collections::HashSet<Bytes> = (0..2000).map(|_| payload.next()).collect();
        assert_eq!(values.len(), 2000);
        let mut counts = [0_u32; 256];
        payload
            .pool
            .iter()
            .for_each(|byte| counts[usize::from(*byte)] += 1);
        let expected = payload.pool.len() as u32 / 256;
        assert!(
            counts
                .iter()
                .all(|count| count.abs_diff(expected) < expected / 10)
        );
    }
}
