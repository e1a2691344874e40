// An error in one element of a page must not stop the other elements.

// Returns the result of `work`, or undefined if it throws. The error is reported like an uncaught one.
export function apart(work) {
  try {
    return work();
  } catch (error) {
    reportError(error);
  }
}
