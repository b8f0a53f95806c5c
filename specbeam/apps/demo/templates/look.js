(...given) => {
  // On a phone the results are below the controls.
  if (innerWidth < 720) setTimeout(() => document.querySelector('#results').scrollIntoView(), 200);
  return given;
}
