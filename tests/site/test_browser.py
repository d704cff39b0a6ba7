"""The site in a real browser, from file://. Every test also fails on a console message, and on a request for more."""

A, B = "resnet18_x0_25_cifar10_l2_eps0_25", "resnet18_x0_25_cifar10_l2_eps0_5"
KINDS = ["index.html", f"model/{B}.html", "compare.html", f"compare.html#compare={A},{B}", "data.html", "about.html"]


def test_smoke(browser):
    for path in KINDS:
        browser.open(path)
        print(path, browser.violations())
    print(browser.complaints())
