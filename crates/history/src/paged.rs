//! A map from numbers that lie close together, such as offsets and values.

use std::collections::BTreeMap;

const PAGE: u64 = 256;

/// Like a `BTreeMap<u64, T>`, but for dense keys: one page of slots for 256 of them.
#[derive(Debug, Clone)]
pub(crate) struct Paged<T> {
    pages: BTreeMap<u64, Vec<Option<T>>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self {
            pages: BTreeMap::new(),
        }
    }
}

impl<T: Copy> Paged<T> {
    pub(crate) fn get(&self, key: u64) -> Option<T> {
        let page = self.pages.get(&(key / PAGE))?;
        page[(key % PAGE) as usize]
    }

    pub(crate) fn insert(&mut self, key: u64, value: T) {
        *self.slot(key) = Some(value);
    }

    /// What stands at the key, which is `value` if nothing stood there.
    pub(crate) fn get_or_insert(&mut self, key: u64, value: T) -> T {
        *self.slot(key).get_or_insert(value)
    }

    /// The keys from `from` on, rising.
    pub(crate) fn keys_from(&self, from: u64) -> impl Iterator<Item = u64> + '_ {
        self.pages
            .range(from / PAGE..)
            .flat_map(|(number, page)| (number * PAGE..).zip(page))
            .filter(move |(key, slot)| *key >= from && slot.is_some())
            .map(|(key, _)| key)
    }

    fn slot(&mut self, key: u64) -> &mut Option<T> {
        let page = self
            .pages
            .entry(key / PAGE)
            .or_insert_with(|| vec![None; PAGE as usize]);
        &mut page[(key % PAGE) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_in_order_across_pages() {
        let mut paged = Paged::default();
        for key in [700, 3, 255, 256, u64::MAX / 2] {
            paged.insert(key, key + 1);
        }
        assert_eq!(paged.get(256), Some(257));
        assert_eq!(paged.get(257), None);
        assert_eq!(paged.get_or_insert(257, 9), 9);
        assert_eq!(paged.get_or_insert(257, 8), 9);
        let keys: Vec<_> = paged.keys_from(255).collect();
        assert_eq!(keys, [255, 256, 257, 700, u64::MAX / 2]);
    }
}
