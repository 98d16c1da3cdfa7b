import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * One Elasticsearch node: Server HOST:PORT FOLDER [SETTING=VALUE …], with the property `home`. Only what is on Maven Central: the
 * core and its HTTP, without the root's greeting, data streams and security.
 */
public class Server {
  public static void main(String[] arguments) throws Exception {
    String[] address = arguments[0].split(":");
    Path home = Path.of(System.getProperty("home")), folder = Path.of(arguments[1]);
    Files.createDirectories(folder.resolve("data"));
    Files.createDirectories(folder.resolve("logs"));
    Settings.Builder settings = Settings.builder()
        .put("path.home", home)
        .put("path.data", folder.resolve("data"))
        .put("path.logs", folder.resolve("logs"))
        .put("cluster.name", "aqueduct-tests")
        .put("node.name", "one")
        .put("network.host", address[0])
        .put("http.port", address[1])
        .put("transport.port", "0")
        .put("discovery.type", "single-node")
        .put("cluster.routing.allocation.disk.threshold_enabled", false)
        .put("transport.type", "netty4")
        .put("http.type", "netty4");
    for (int i = 2; i < arguments.length; i++) {
      String[] setting = arguments[i].split("=", 2);
      settings.put(setting[0], setting[1]);
    }
    LogConfigurator.configureWithoutConfig(Settings.EMPTY);
    Environment environment = new Environment(settings.build(), home.resolve("config"));
    org.elasticsearch.nativeaccess.NativeAccess.instance();
    PluginsLoader plugins = PluginsLoader.createPluginsLoader(
        PluginsLoader.loadModulesBundles(environment.modulesDir()),
        PluginsLoader.loadPluginsBundles(environment.pluginsDir()), Map.of(), false);
    new Node(environment, plugins).start();
    Thread.currentThread().join();
  }
}
