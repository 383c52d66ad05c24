//! The broker inside one process, for `reelmill dev` and tests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Broker, BrokerError, Delivery, QueueKey, Ring, Subscription};

/// Old hints are worthless: a queue keeps no more than this.
const KEPT: usize = 1000;

/// Rings within one process.
#[derive(Clone, Default)]
pub struct LocalBroker(Arc<Inner>);

#[derive(Default)]
struct Inner {
    queues: Mutex<HashMap<QueueKey, VecDeque<Ring>>>,
    rung: Notify,
}

impl Inner {
    fn take(&self, queues: &[QueueKey]) -> Option<Ring> {
        let mut all = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().find_map(|queue| all.get_mut(queue)?.pop_front())
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn ring(&self, rings: &[Ring]) -> Result<(), BrokerError> {
        {
            let mut all = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
            for ring in rings {
                let queue = all.entry(ring.queue()).or_default();
                if queue.len() == KEPT {
                    queue.pop_front();
                }
                queue.push_back(ring.clone());
            }
        }
        // All listeners look: which of them may take a ring depends on its queue.
        self.0.rung.notify_waiters();
        Ok(())
    }

    async fn subscribe(&self, queues: &[QueueKey]) -> Result<Box<dyn Subscription>, BrokerError> {
        Ok(Box::new(LocalSubscription { inner: Arc::clone(&self.0), queues: queues.to_vec() }))
    }

    async fn check(&self) -> Result<(), BrokerError> {
        Ok(())
    }
}

struct LocalSubscription {
    inner: Arc<Inner>,
    queues: Vec<QueueKey>,
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            let rung = self.inner.rung.notified();
            tokio::pin!(rung);
            // Registered before looking, so that a ring between the look and the wait is not missed.
            rung.as_mut().enable();
            if let Some(ring) = self.inner.take(&self.queues) {
                return Ok(Delivery { ring, message: None });
            }
            rung.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::capability::Pool;

    fn ring(class: &str) -> Ring {
        Ring { pool: Pool::Cpu, class: class.into(), job_id: None, task_id: None, traceparent: None }
    }

    #[tokio::test]
    async fn a_ring_reaches_one_listener_of_its_queue() {
        let broker = LocalBroker::default();
        let mut base = broker.subscribe(&[ring("base").queue()]).await.unwrap();
        let mut x264 = broker.subscribe(&[ring("libx264").queue()]).await.unwrap();
        let waiting = tokio::spawn(async move { x264.next().await.unwrap().ring });
        broker.ring(&[ring("base"), ring("libx264")]).await.unwrap();
        assert_eq!(waiting.await.unwrap().class, "libx264");
        assert_eq!(base.next().await.unwrap().ring.class, "base");
    }
}
