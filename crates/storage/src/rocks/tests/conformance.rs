//! The suite of the contract.

use tidelog_log::conformance::{Subject, check};

use super::*;

struct OnRocks {
    store: Arc<RocksStore>,
    dir: tempfile::TempDir,
}

impl OnRocks {
    fn open(dir: tempfile::TempDir, listener: Arc<dyn StoreListener>) -> Self {
        Self {
            store: RocksStore::open(dir.path(), options(), listener).unwrap(),
            dir,
        }
    }
}

impl Subject for OnRocks {
    fn fresh(listener: Arc<dyn StoreListener>) -> Self {
        Self::open(tempfile::tempdir().unwrap(), listener)
    }

    fn store(&self) -> &dyn LogStore {
        &*self.store
    }

    fn restart(self, orderly: bool, listener: Arc<dyn StoreListener>) -> Self {
        if orderly {
            self.store.close().unwrap();
        } else {
            self.store.reclaim().unwrap();
        }
        drop(self.store);
        let restarted = Self::open(self.dir, listener);
        assert_eq!(restarted.store.directory().was_clean, orderly);
        restarted
    }
}

#[test]
fn rocksdb_conforms() {
    check::<OnRocks>(48);
}
