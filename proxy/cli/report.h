/* report.h - a verification report (airlock_report's JSON) for people: stages with their results, then the facts. */
#ifndef PROXY_CLI_REPORT_H
#define PROXY_CLI_REPORT_H

/* Print to standard output; text that is no report is left out. */
void cli_report_print(const char *json);

#endif
