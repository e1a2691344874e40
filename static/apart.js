// What one element of a page does wrong must not stop the others.

// What `work` returns; undefined if it throws. The error is reported as any other that nobody catches.
export function apart(work) {
  try {
    return work();
  } catch (error) {
    reportError(error);
  }
}
