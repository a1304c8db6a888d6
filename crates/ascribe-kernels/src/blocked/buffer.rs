//! Memory that is aligned to cache lines, so that no 512-bit vector spans two of them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// An owned slice of `f32` that is aligned to a cache line.
///
/// Kernels accept any slice, but on one that is not aligned every 512-bit access touches two cache lines.
pub struct Buffer {
    pointer: NonNull<f32>,
    len: usize,
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl Buffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// When `len` elements do not fit the address space, as for [`Vec`].
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self { pointer: NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the size is not zero.
        let Some(pointer) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Self { pointer: pointer.cast(), len }
    }

    fn layout(len: usize) -> Layout {
        match len.checked_mul(size_of::<f32>()).map(|bytes| Layout::from_size_align(bytes, LINE)) {
            Some(Ok(layout)) => layout,
            _ => panic!("capacity overflow: {len} elements"),
        }
    }
}

// SAFETY: owns its memory, like a `Vec<f32>`.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared references only allow reading.
unsafe impl Sync for Buffer {}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised elements, or a dangling pointer and 0.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated by `new` with this layout.
            unsafe { dealloc(self.pointer.as_ptr().cast(), Self::layout(self.len)) };
        }
    }
}
