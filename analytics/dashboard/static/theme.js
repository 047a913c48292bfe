// Sets the colour scheme before anything is painted. It is stored in the browser, not in the URL.
(() => {
  try {
    const chosen = localStorage.getItem("mailpulse.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // storage may be disabled; then the system's scheme applies
  }
})();
