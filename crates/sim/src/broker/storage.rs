//! The disk's steps, and what the replicas are told of them.

use tidelog_history::What;
use tidelog_log::Progress;
use tidelog_types::TopicIdPartition;

use super::{Ended, Process, Timer};
use crate::context::Context;

/// Most steps that are written at once.
const STEPS_AT_ONCE: u64 = 8;

impl Process {
    /// Plans the disk's next steps, where there is something to do.
    pub(super) fn disk_later(&mut self, context: &mut Context) {
        if self.disk.may_write() && !self.is_writing {
            self.is_writing = true;
            let after = context.random.micros(20, 300);
            self.plan(after, Timer::Write, context);
        }
        if self.disk.may_sync() {
            self.disk.begin_sync();
            let random = &mut context.random;
            let after = if self.is_slow {
                random.millis(100, 1500)
            } else if random.per_mille(15) {
                random.millis(20, 150)
            } else {
                random.micros(600, 6000)
            };
            self.plan(after, Timer::Synced, context);
        }
    }

    pub(super) fn write(&mut self, context: &mut Context) {
        self.is_writing = false;
        let count = context.random.between(1, STEPS_AT_ONCE) as usize;
        for progress in self.disk.write(count) {
            self.written(progress, context);
        }
    }

    fn written(&mut self, progress: Progress<TopicIdPartition>, context: &mut Context) {
        let Progress { partition, end } = progress;
        if let Some(known) = self.replicas.get_mut(&partition) {
            let effects = known.replica.written(end);
            self.perform(partition, effects, context);
        }
    }

    pub(super) fn synced(&mut self, context: &mut Context) {
        if self.fails_next_sync {
            // Never tried again: the process ends, and what is on the disk is what a restart finds.
            self.ended = Some(Ended::DiskFailed);
            return;
        }
        let synced = self.disk.end_sync();
        if let Some(progress) = synced.written {
            self.written(progress, context);
        }
        for Progress { partition, end } in synced.durable {
            context.record(What::Durable {
                broker: self.broker,
                partition,
                end,
            });
            let now = self.local(context);
            if let Some(known) = self.replicas.get_mut(&partition) {
                let effects = known.replica.durable(end, now);
                self.perform(partition, effects, context);
            }
        }
    }
}
