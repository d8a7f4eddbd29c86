import gemstone_sync as gemstone


class HelloWorldService(gemstone.MicroService):
    name = "hello_world_service"
    host = "127.0.0.1"
    port = 8000

    @gemstone.exposed_method()
    def say_hello(self, name: str) -> str:
        return "hello {}".format(name)


if __name__ == "__main__":
    service = HelloWorldService()
    service.start()
