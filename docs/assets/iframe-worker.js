// Browsers start no Worker on pages opened from a disk (file://). There the search runs in a hidden frame instead, which
// this class gives the interface of a Worker. Material's own substitute is loaded from a network.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.receive = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.frame.srcdoc = `<body><script>
        window.postMessage = (data) => frameElement.receive(data);
        window.importScripts = async (...urls) => {
          for (const url of urls)
            await new Promise((resolve, reject) => {
              const script = document.createElement("script");
              Object.assign(script, { src: url, onload: resolve, onerror: reject });
              document.body.append(script);
            });
        };
      </script><script src="${url}"></script></body>`;
      this.loaded = new Promise((resolve) => { this.frame.onload = resolve; });
      document.body.append(this.frame);
    }

    async postMessage(data) {
      await this.loaded;
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
