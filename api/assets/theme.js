// Runs before the first paint, so that a remembered theme never flashes. A choice equal to the system's is forgotten:
// the page then follows the system again.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const KEY = "reelmill.theme";
  const read = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const write = (v) => { try { v ? localStorage.setItem(KEY, v) : localStorage.removeItem(KEY); } catch { /* private mode */ } };
  const system = () => (dark.matches ? "dark" : "light");
  const apply = () => {
    const saved = read();
    if (saved === "light" || saved === "dark") root.dataset.theme = saved;
    else delete root.dataset.theme;
  };
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme-toggle");
    if (!button) return;
    button.hidden = false;
    const label = () => {
      const now = root.dataset.theme || system();
      button.setAttribute("aria-label", now === "dark" ? "Switch to the light look" : "Switch to the dark look");
      button.title = button.getAttribute("aria-label");
    };
    label();
    button.addEventListener("click", () => {
      const next = (root.dataset.theme || system()) === "dark" ? "light" : "dark";
      write(next === system() ? null : next);
      apply();
      label();
    });
    dark.addEventListener("change", label);
    addEventListener("storage", () => { apply(); label(); });
  });
})();
