// The table of contents: folded on phones, and marking the section that is being read.
(() => {
  const nav = document.querySelector("nav");
  const links = new Map([...nav.querySelectorAll('a[href^="#"]')].map((link) => [link.hash.slice(1), link]));

  const fold = document.createElement("button");
  fold.type = "button";
  fold.className = "fold";
  fold.textContent = "Contents";
  nav.prepend(fold);
  nav.classList.add("foldable");
  function open(wanted) {
    nav.classList.toggle("open", wanted);
    fold.setAttribute("aria-expanded", String(wanted));
  }
  open(false);
  fold.addEventListener("click", () => open(!nav.classList.contains("open")));
  nav.addEventListener("click", (event) => event.target.closest("a") && open(false));
  nav.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && nav.classList.contains("open")) {
      open(false);
      fold.focus();
    }
  });

  // The last heading above a line near the top of the window.
  const headings = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let waiting = false;
  function mark() {
    waiting = false;
    const read = headings.filter((heading) => heading.getBoundingClientRect().top < 120).pop() ?? headings[0];
    for (const [id, link] of links) {
      if (id !== read?.id) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        // The list may be longer than the window, or wider where it is a bar.
        if (nav.scrollHeight > nav.clientHeight) nav.scrollTop = link.offsetTop - nav.clientHeight / 2;
        const list = link.closest("ul");
        if (list.scrollWidth > list.clientWidth) list.scrollLeft = link.offsetLeft - list.clientWidth / 2;
      }
    }
  }
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(mark);
    waiting = true;
  }, { passive: true });
  mark();
})();
