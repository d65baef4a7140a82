//! The allocator of the WebAssembly build: one arena, emptied at the start of every call.
//!
//! Each call of the core is a pure function of its input, so nothing has to outlive it. An arena that is
//! simply emptied cannot leak, and cannot be left broken by a call that trapped half-way: the next call
//! starts from an empty arena whatever happened before.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};

const PAGE_BYTES: usize = 65_536;

extern "C" {
    /// The first address behind the program's own data; its address is the value (set by the linker).
    static __heap_base: u8;
}

/// The first free address; 0 before the first call.
static NEXT: AtomicUsize = AtomicUsize::new(0);

pub struct Arena;

fn base() -> usize {
    // Only the symbol's address is taken, the byte behind it is never read.
    unsafe { core::ptr::addr_of!(__heap_base) as usize }
}

/// Frees everything. No reference into the arena may be alive.
pub fn empty() {
    NEXT.store(base(), Ordering::Relaxed);
}

/// Makes the memory reach up to `end`; false when the host refuses to give more.
fn reach(end: usize) -> bool {
    let have = core::arch::wasm32::memory_size(0) * PAGE_BYTES;
    if end <= have {
        return true;
    }
    let pages = (end - have + PAGE_BYTES - 1) / PAGE_BYTES;
    core::arch::wasm32::memory_grow(0, pages) != usize::MAX
}

unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let next = NEXT.load(Ordering::Relaxed).max(base());
        let aligned = next.checked_add(layout.align() - 1).map(|sum| sum & !(layout.align() - 1));
        let end = aligned.and_then(|start| start.checked_add(layout.size()));
        match (aligned, end) {
            (Some(start), Some(end)) if reach(end) => {
                NEXT.store(end, Ordering::Relaxed);
                start as *mut u8
            }
            _ => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Only the newest block can be taken back; the rest waits for `empty`.
        if pointer as usize + layout.size() == NEXT.load(Ordering::Relaxed) {
            NEXT.store(pointer as usize, Ordering::Relaxed);
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The newest block grows and shrinks in place: a string that is being built is never copied.
        let start = pointer as usize;
        if start + layout.size() == NEXT.load(Ordering::Relaxed) {
            return match start.checked_add(size) {
                Some(end) if reach(end) => {
                    NEXT.store(end, Ordering::Relaxed);
                    pointer
                }
                _ => core::ptr::null_mut(),
            };
        }
        let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
        if !moved.is_null() {
            core::ptr::copy_nonoverlapping(pointer, moved, layout.size().min(size));
        }
        moved
    }
}
