//! How much of its stack a thread has left: an overflow would end the process.

use std::cell::Cell;
use std::mem::MaybeUninit;

/// What must be left for a run to go on, in bytes: one call into Python and back.
const RESERVE: usize = 512 * 1024;

thread_local! {
    /// The lowest address a run may reach on this thread; 0 before it was asked for.
    static FLOOR: Cell<usize> = const { Cell::new(0) };
}

/// Whether this thread has come so deep that its run must end.
#[inline]
pub fn is_exhausted() -> bool {
    let here = 0u8;
    let address = std::ptr::from_ref(&here) as usize;
    FLOOR.with(|floor| {
        if floor.get() == 0 {
            floor.set(lowest_address().map_or(1, |lowest| lowest + RESERVE));
        }
        address < floor.get()
    })
}

/// The lower bound of this thread's stack, where the system tells it.
fn lowest_address() -> Option<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut start = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the attributes are read only after they were filled in, and
    // destroyed once; the out parameters are locals of the right types.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let found = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (found == 0).then_some(start as usize)
    }
}
