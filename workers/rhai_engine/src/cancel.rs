//! How another thread ends a run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

/// Ends every run that it was given to, once it is cancelled.
#[pyclass(frozen, module = "horus_rhai")]
pub struct CancelToken(pub Arc<Cancel>);

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// End the runs; cancelling again changes nothing.
    fn cancel(&self) {
        self.0.cancel();
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// A flag that is read at every operation and wakes who sleeps.
#[derive(Default)]
pub struct Cancel {
    flag: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Cancel {
    fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
        // The lock is taken so that nobody falls asleep between looking and waiting.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Wait, at most this long, until it is cancelled.
    pub fn wait(&self, at_most: Duration) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self
            .changed
            .wait_timeout_while(guard, at_most, |()| !self.is_cancelled());
    }
}
