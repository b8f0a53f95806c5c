// A tree that is drawn again shows its newest column, except to a visitor who looks at an earlier one while it grows.
let behind = false, width = 0, left = 0;
const box = () => element.querySelector('[tabindex="0"]');
const frontier = (b) => {
  const rights = [...b.querySelectorAll('[data-nodes]')].map((g) => g.getBoundingClientRect().right);
  return Math.max(...rights) - b.getBoundingClientRect().left + b.scrollLeft;
};
element.addEventListener('scroll', (event) => {
  left = event.target.scrollLeft;
  behind = left + event.target.clientWidth < frontier(event.target) - 40;
}, true);
watch('value', () => {
  const b = box();
  if (!b) { behind = false; width = left = 0; return; }
  const grows = b.scrollWidth > width + 1, end = frontier(b);
  width = b.scrollWidth;
  const seen = left < end - 80 && end <= left + b.clientWidth;
  b.scrollLeft = (grows && behind) || (!grows && seen) ? left : end - b.clientWidth + 24;
});
