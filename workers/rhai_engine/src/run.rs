//! One run of a script: what ends it from outside, and who hears what it prints.
//!
//! An engine is shared by all its runs, so its hooks find theirs by the thread
//! that they are called on. A run inside a run, by way of a Python function,
//! hides the outer one until it ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rhai::{Dynamic, EvalAltResult, ImmutableString, Position};

use crate::asked::Asked;
use crate::cancel::Cancel;
use crate::stack;

/// After how many operations the clock is read.
const OPERATIONS_PER_LOOK: u32 = 32;
/// How often Python gets to run its signal handlers.
const SIGNALS_EVERY: Duration = Duration::from_millis(20);
/// How many exceptions a script may catch before it no longer can throw the first again.
const REMEMBERED: usize = 16;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Run>>> = const { RefCell::new(None) };
    /// How many operations this thread's run may do before it is looked at again.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Why a run ends before its script does.
pub enum Stop {
    Timeout,
    Cancelled,
    Operations,
    Stack,
    /// The script itself has said so, and with which value.
    Exit(Dynamic),
    /// An exception that no script may catch.
    Raised(PyErr),
}

/// Exceptions of Python, each by the very text that its script was shown.
type Raised = Vec<(ImmutableString, PyErr)>;

/// How a run has ended, besides what its script came to.
#[derive(Default)]
pub struct End {
    pub stop: Option<Stop>,
    /// What an object did not have, when it was asked for it last.
    pub missing: Option<Missing>,
    raised: Raised,
}

/// What an object was asked for and does not have.
pub struct Missing {
    pub name: String,
    /// What is said of it, with the class of the object.
    pub text: String,
}

impl End {
    /// The exception that a script was shown by this text, and no copy of it.
    pub fn take_raised(&mut self, message: &ImmutableString) -> Option<PyErr> {
        let found = self
            .raised
            .iter()
            .position(|(text, _)| text.ptr_eq(message))?;
        Some(self.raised.swap_remove(found).1)
    }
}

/// What the hooks of an engine know of the run that they serve.
pub struct Run {
    pub print: Option<Arc<Py<PyAny>>>,
    pub debug: Option<Arc<Py<PyAny>>>,
    pub asked: Arc<Asked>,
    cancel: Option<Arc<Cancel>>,
    deadline: Option<Instant>,
    /// 0 for no limit.
    max_operations: u64,
    operations: Cell<u64>,
    /// What `LEFT` was when it was set last.
    granted: Cell<u32>,
    signals_at: Cell<Instant>,
    has_ended: Cell<bool>,
    stop: RefCell<Option<Stop>>,
    missing: RefCell<Option<Missing>>,
    raised: RefCell<Raised>,
}

impl Run {
    pub fn new(
        asked: Arc<Asked>,
        print: Option<Arc<Py<PyAny>>>,
        debug: Option<Arc<Py<PyAny>>>,
        cancel: Option<Arc<Cancel>>,
        timeout: Option<Duration>,
        max_operations: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            print,
            debug,
            asked,
            cancel,
            // A deadline that no clock reaches is none.
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
            max_operations,
            operations: Cell::new(0),
            granted: Cell::new(0),
            signals_at: Cell::new(now + SIGNALS_EVERY),
            has_ended: Cell::new(false),
            stop: RefCell::new(None),
            missing: RefCell::new(None),
            raised: RefCell::new(Vec::new()),
        }
    }

    /// Do something as this run, on this thread.
    pub fn enter<T>(self: &Rc<Self>, work: impl FnOnce() -> T) -> T {
        struct Outer(Option<Rc<Run>>, u32);
        impl Drop for Outer {
            fn drop(&mut self) {
                CURRENT.replace(self.0.take());
                LEFT.set(self.1);
            }
        }
        let _outer = Outer(CURRENT.replace(Some(self.clone())), LEFT.replace(0));
        work()
    }

    /// The run that this thread is at.
    pub fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Count one operation of this thread's run; whether the run has to end.
    #[inline]
    pub fn tick() -> bool {
        let left = LEFT.get();
        if left > 0 {
            LEFT.set(left - 1);
            return false;
        }
        Self::current().is_some_and(|run| {
            run.operations.set(run.operations.get() + 1);
            run.must_end()
        })
    }

    /// Look at all that may end this run.
    pub fn must_end(&self) -> bool {
        if self.has_ended.get() {
            return true;
        }
        self.look_soon();
        let now = Instant::now();
        if self.is_cancelled() {
            self.end(Stop::Cancelled);
        } else if self.is_over_operations() {
            self.end(Stop::Operations);
        } else if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.end(Stop::Timeout);
        } else if stack::is_exhausted() {
            self.end(Stop::Stack);
        } else if now >= self.signals_at.get() {
            self.signals_at.set(now + SIGNALS_EVERY);
            if let Err(error) = Python::attach(|py| py.check_signals()) {
                self.end(Stop::Raised(error));
            }
        }
        if !self.has_ended.get() {
            self.grant();
        }
        self.has_ended.get()
    }

    /// End this run; the first reason stays.
    pub fn end(&self, stop: Stop) {
        self.has_ended.set(true);
        self.look_soon();
        self.stop.borrow_mut().get_or_insert(stop);
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// What is left of this run once its script has ended.
    pub fn end_of(self: Rc<Self>) -> End {
        End {
            stop: self.stop.take(),
            missing: self.missing.take(),
            raised: self.raised.take(),
        }
    }

    /// Have the next operation look at the clock: time has passed elsewhere.
    pub fn look_soon(&self) {
        let used = self.granted.replace(0) - LEFT.replace(0);
        self.operations.set(self.operations.get() + u64::from(used));
    }

    /// Remember an exception by the very text that its script is shown.
    pub fn remember(&self, message: ImmutableString, error: PyErr) {
        let mut raised = self.raised.borrow_mut();
        // Where the script has let go of a text, it cannot throw it again.
        raised.retain(|(text, _)| text.strong_count() > 1);
        if raised.len() == REMEMBERED {
            raised.remove(0);
        }
        raised.push((message, error));
    }

    /// Note what an object does not have: Rhai knows its place, but not its class.
    pub fn note_missing(&self, name: &str, text: String) {
        let name = name.to_owned();
        self.missing.replace(Some(Missing { name, text }));
    }

    /// Wait as a script asks, but never beyond the end of its run.
    pub fn sleep(&self, wanted: Duration) -> Result<(), Box<EvalAltResult>> {
        let begin = Instant::now();
        while !self.must_end() {
            let Some(left) = wanted.checked_sub(begin.elapsed()) else {
                return Ok(());
            };
            if left.is_zero() {
                return Ok(());
            }
            let step = match self.deadline {
                Some(deadline) => left.min(deadline.saturating_duration_since(Instant::now())),
                None => left,
            };
            let step = step.min(SIGNALS_EVERY);
            match &self.cancel {
                Some(cancel) => cancel.wait(step),
                None => std::thread::sleep(step),
            }
        }
        Err(terminated(Position::NONE))
    }

    fn is_cancelled(&self) -> bool {
        let token = self.cancel.as_deref();
        token.is_some_and(Cancel::is_cancelled)
    }

    fn is_over_operations(&self) -> bool {
        self.max_operations > 0 && self.operations.get() > self.max_operations
    }

    /// Let the run do some operations unseen; the one that is too many is looked at.
    fn grant(&self) {
        let usual = OPERATIONS_PER_LOOK - 1;
        let granted = match self.max_operations {
            0 => usual,
            most => {
                let left = most.saturating_sub(self.operations.get());
                u32::try_from(left).map_or(usual, |left| left.min(usual))
            }
        };
        self.granted.set(granted);
        LEFT.set(granted);
    }
}

/// The error that ends a script and that it cannot catch.
#[cold]
pub fn terminated(position: Position) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, position).into()
}
