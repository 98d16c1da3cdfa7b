#!/usr/bin/env bash
# kafka.sh TOOL ARGS... : runs one of Apache Kafka's own command line tools, as Maven Central has them.
#   kafka.sh topics --bootstrap-server HOST:PORT --list
# Needs Java 17 and Maven; the jars (95 of them, 55 MB) are fetched once into AQUEDUCT_SERVICES_CACHE (default ~/.cache/aqueduct-services).
set -euo pipefail
version=4.3.1
cache=${AQUEDUCT_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aqueduct-services}
place=$cache/bin/kafka-$version-1

fetch() { # FOLDER: fills it with the tools' jars
  for tool in mvn java; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: it runs Kafka's tools, see tests/services/README.md" >&2; return 1; }
  done
  local dependency='<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n'
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
    # shellcheck disable=SC2059
    printf "$dependency" org.apache.kafka kafka_2.13 "$version" org.apache.kafka kafka-tools "$version" \
      org.apache.logging.log4j log4j-slf4j-impl 2.25.4
    echo '</dependencies></project>'
  } >"$1/pom.xml"
  mvn -q -B -f "$1/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$1/lib" >&2
  printf '%s\n' 'status = warn' 'appender.err.type = Console' 'appender.err.name = ERR' 'appender.err.target = SYSTEM_ERR' \
    'appender.err.layout.type = PatternLayout' 'appender.err.layout.pattern = [%d] %p %m (%c)%n' 'rootLogger.level = WARN' \
    'rootLogger.appenderRef.err.ref = ERR' >"$1/log4j2.properties"
}

if [ ! -e "$place/lib" ]; then
  mkdir -p "$cache/bin"
  fresh=$(mktemp -d "$cache/bin/.kafka.XXXXXX")
  if ! fetch "$fresh"; then
    rm -rf "$fresh"
    exit 1
  fi
  # Somebody else may have been faster: then theirs is as good.
  mv -T "$fresh" "$place" 2>/dev/null || rm -rf "$fresh"
fi

case ${1:-} in
  topics) class=org.apache.kafka.tools.TopicCommand ;;
  configs) class=kafka.admin.ConfigCommand ;;
  get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
  delete-records) class=org.apache.kafka.tools.DeleteRecordsCommand ;;
  consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
  console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
  console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
  producer-perf) class=org.apache.kafka.tools.ProducerPerformance ;;
  consumer-perf) class=org.apache.kafka.tools.ConsumerPerformance ;;
  verifiable-producer) class=org.apache.kafka.tools.VerifiableProducer ;;
  verifiable-consumer) class=org.apache.kafka.tools.VerifiableConsumer ;;
  broker-api-versions) class=org.apache.kafka.tools.BrokerApiVersionsCommand ;;
  cluster) class=org.apache.kafka.tools.ClusterTool ;;
  transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
  *) echo "unknown tool ${1:-}" >&2; exit 2 ;;
esac
shift
# Tools live for a second: what takes long to compile would not pay.
exec java -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.configurationFile="$place/log4j2.properties" \
  -cp "$place/lib/*" "$class" "$@"
